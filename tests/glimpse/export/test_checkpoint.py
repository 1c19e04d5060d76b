import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from PIL import Image

import glimpse.export
from glimpse.cli.evaluate import evaluate_checkpoint
from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import DataError
from glimpse.evaluation.calibration import budget_table, fit_temperature
from glimpse.evaluation.evaluate import beliefs, costs_of
from glimpse.export import checkpoint as checkpoint_module
from glimpse.export import model as model_module
from glimpse.export.checkpoint import ExportOptions, card_of, export_checkpoint
from glimpse.export.model import ExportError
from glimpse.export.parity import Parity
from glimpse.export.program import ProgramParity
from glimpse.training.checkpoint import CheckpointError, load_training, load_with_data
from glimpse.training.families.hard import HardAttentionTraining
from glimpse.training.families.soft import SoftAttentionTraining


def images(root: Path, *classes: str) -> Path:
    """ROOT/CLASS/image, thirty images in each."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(30):
            Image.new("L", (20, 16), 40 * label + number).save(root / name / f"{number:02}.png")
    return root


def save(path: Path, **options: Any) -> Path:
    """A checkpoint of a tiny model, as training writes it."""
    data = ImageData(**options)
    training = HardAttentionTraining(
        data.classes, data.image_shape, num_glimpses=2, glimpse_size=4, num_scales=2, hidden=8, gaze_hidden=8
    )
    return keep(path, training, data)


def keep(path: Path, training: Any, data: ImageData) -> Path:
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(training)
    trainer._data_connector.attach_datamodule(training, datamodule=data)
    trainer.save_checkpoint(path)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint that was trained on a folder of ants and bees."""
    root = images(tmp_path / "insects", "ant", "bee")
    return save(tmp_path / "last.ckpt", dataset="folder", root=str(root), image_height=16, image_width=20, channels=1)


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_checkpoint_is_evaluated_on_the_part_that_is_asked_for(checkpoint, part):
    evaluation = evaluate_checkpoint(checkpoint, part)
    data = load_with_data(checkpoint)[1]
    assert evaluation.images == len(data.source.test if part == "test" else data.source.validation)
    assert [report.name for report in evaluation.per_class] == ["ant", "bee"]


def test_a_class_that_came_or_went_is_told_with_both_lists(checkpoint, tmp_path):
    images(tmp_path / "insects", "wasp")
    changed = r"last.ckpt was trained on the classes ant, bee; the data under .*insects now have ant, bee, wasp; give"
    for run in (evaluate_checkpoint, export_checkpoint):
        with pytest.raises(CheckpointError, match=changed):
            run(checkpoint)
    for name in ("bee", "wasp"):
        shutil.rmtree(tmp_path / "insects" / name)
    images(tmp_path / "insects", "beetle")
    with pytest.raises(CheckpointError, match="now have ant, beetle; "):
        evaluate_checkpoint(checkpoint)
    assert not (tmp_path / "model.onnx").exists()


def test_images_of_another_shape_are_refused(checkpoint, monkeypatch):
    training, data = load_training(checkpoint)
    training.image_shape = (1, 16, 24)
    monkeypatch.setattr("glimpse.training.checkpoint.load_training", lambda path, root: (training, data))
    with pytest.raises(CheckpointError, match=r"was trained on images of the shape 1, 16, 24; the data .* 1, 16, 20; "):
        evaluate_checkpoint(checkpoint)


def test_data_that_are_not_there_are_asked_for_with_an_option_that_there_is(checkpoint, tmp_path):
    for run in (evaluate_checkpoint, export_checkpoint):
        with pytest.raises(DataError, match=r"a folder of images at nowhere, found none; give one with root$"):
            run(checkpoint, root="nowhere")
    saved = torch.load(checkpoint, weights_only=True)
    saved["datamodule_hyper_parameters"] = {"dataset": "mnist", "root": str(tmp_path), "download": True}
    torch.save(saved, checkpoint)
    with pytest.raises(DataError, match=r"no complete copy of it; give its folder with root or GLIMPSE_DATA$"):
        evaluate_checkpoint(checkpoint)


def test_a_file_that_is_no_checkpoint_is_told(tmp_path):
    for run in (evaluate_checkpoint, export_checkpoint):
        with pytest.raises(CheckpointError, match=r"expected a checkpoint at .*no.ckpt, found nothing"):
            run(tmp_path / "no.ckpt")


def test_a_missing_checkpoint_is_named_before_its_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected a checkpoint at .*last.ckpt, found nothing"):
        export_checkpoint(tmp_path / "runs" / "none" / "last.ckpt")


def test_an_exported_files_name_says_what_it_is(checkpoint):
    with pytest.raises(ExportError, match=r"expected a file name that ends in .onnx, got model.pt; change output"):
        export_checkpoint(checkpoint, Path("model.pt"))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What an export would have been made of, each time."""
    seen: list[Any] = []

    def export(observer, card, path, shown):
        seen.append((card, shown))
        return Parity(len(shown), 0.0, 0, 0)

    monkeypatch.setattr(checkpoint_module, "export_model", export)
    monkeypatch.setattr(checkpoint_module, "load_model_file", lambda path: SimpleNamespace(card=seen[-1][0]))
    return seen


def test_an_export_gets_test_images_and_a_card_with_what_was_measured(checkpoint, written):
    path, card, parity = export_checkpoint(checkpoint)
    ((handed, shown),) = written
    assert path == checkpoint.parent / "model.onnx"
    assert handed == card
    assert card.target == "cpu"
    assert card.test_error == evaluate_checkpoint(checkpoint).error
    test = load_with_data(checkpoint)[1].source.test
    assert torch.equal(shown, test.images)
    assert parity.images == len(test)


def test_an_export_is_calibrated_on_the_validation_images(checkpoint, written):
    card = export_checkpoint(checkpoint).card
    training, data = load_with_data(checkpoint)
    logits, labels = beliefs(training.observer, data.val_dataloader())
    assert card.temperature == fit_temperature(logits, labels)
    assert card.budgets == budget_table(logits, labels, card.temperature, card.multiply_accumulates)
    assert [budget.max_glimpses for budget in card.budgets if budget.confidence is None] == [1, 2]


def test_an_export_is_measured_from_where_the_model_was_trained(checkpoint, written, monkeypatch):
    def loaded(*given):
        training, data = load_with_data(*given)
        training.first_location = "random"
        return training, data

    monkeypatch.setattr(checkpoint_module, "load_with_data", loaded)
    card = export_checkpoint(checkpoint).card
    training, data = load_with_data(checkpoint)
    logits, labels = beliefs(training.observer, data.val_dataloader(), first_location="random")
    assert card.first_location == "random"
    assert card.temperature == fit_temperature(logits, labels)
    assert card.test_error == evaluate_checkpoint(checkpoint, first_location="random").error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "found"),
    [
        (ExportOptions(), ("adaptive", "uint8", "float32", "cpu", 16)),
        (ExportOptions("episode"), ("episode", "uint8", "float32", "cpu", None)),
        (ExportOptions("step", "float32", "int8"), ("step", "float32", "int8", "cpu", 16)),
        (ExportOptions(precision="float16"), ("adaptive", "uint8", "float16", "gpu", 16)),
        (ExportOptions(precision="float16", chosen_target="cpu"), ("adaptive", "uint8", "float16", "cpu", 16)),
        (ExportOptions(chosen_target="gpu"), ("adaptive", "uint8", "float32", "gpu", 16)),
    ],
)
def test_an_export_has_the_form_that_is_asked_for(checkpoint, written, options, found):
    card = export_checkpoint(checkpoint, options=options).card
    assert (card.graph, card.input_type, card.precision, card.target, card.state_size) == found


def test_a_license_goes_into_the_card(checkpoint, written):
    assert export_checkpoint(checkpoint, options=ExportOptions(license="CC-BY-4.0")).card.license == "CC-BY-4.0"
    assert export_checkpoint(checkpoint).card.license is None


def test_how_a_model_was_made_goes_into_the_cards_recipe(checkpoint, written):
    recipe = export_checkpoint(checkpoint, options=ExportOptions(made_by="glimpse train --seed 0")).card.recipe
    assert recipe["made_by"] == "glimpse train --seed 0"
    assert recipe["model"]["hidden"] == 8
    assert "made_by" not in export_checkpoint(checkpoint).card.recipe


def test_weights_are_rounded_before_anything_is_measured(checkpoint, written, monkeypatch):
    seen = []

    def believed(observer, batches, **options):
        seen.append(observer)
        return beliefs(observer, batches, **options)

    monkeypatch.setattr(checkpoint_module, "beliefs", believed)
    card = export_checkpoint(checkpoint, options=ExportOptions(weights="float16")).card
    assert len(seen) == 2
    for observer in seen:
        assert all(torch.equal(weight, weight.half().float()) for weight in observer.parameters())
    assert (card.precision, card.recipe["weights"]) == ("float32", "float16")
    assert "weights" not in export_checkpoint(checkpoint).card.recipe
    assert any(not torch.equal(weight, weight.half().float()) for weight in seen[-1].parameters())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ExportOptions(weights="float16", precision="int8"),
            "computes in float32 with weights='float16', got precision='int8', ",
        ),
        (
            ExportOptions(weights="float16", precision="float16"),
            "with weights='float16', got precision='float16', which stores",
        ),
        (ExportOptions(weights="bfloat16"), "expected weights in one of float32, float16; got 'bfloat16'"),
    ],
)
def test_weights_that_can_not_be_stored_so_are_refused_before_anything_is_read(options, sentence, tmp_path):
    with pytest.raises(ExportError, match=sentence):
        export_checkpoint(tmp_path / "nothing.ckpt", options=options)


@pytest.fixture
def soft_checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of a model without a retina."""
    root = images(tmp_path / "insects", "ant", "bee")
    options: dict[str, Any] = {"num_glimpses": 2, "widths": [4, 8], "depths": [1, 1], "hidden": 8}
    data = ImageData("folder", str(root), image_height=16, image_width=20, channels=1)
    training = SoftAttentionTraining(data.classes, data.image_shape, **options)
    return keep(tmp_path / "last.ckpt", training, data)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (ExportOptions("adaptive"), "the adaptive graph in float32"),
        (ExportOptions("step"), "the step graph in float32"),
        (ExportOptions(precision="int8"), "the episode graph in int8"),
    ],
)
def test_a_form_that_there_is_not_of_a_model_is_refused_before_anything_is_measured(
    soft_checkpoint, monkeypatch, options, found
):
    def measured(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(checkpoint_module, "beliefs", measured)
    with pytest.raises(
        ExportError, match=f"expected the episode of a soft model in float32 or float16, got {found}; only models"
    ):
        export_checkpoint(soft_checkpoint, options=options)
    assert not (soft_checkpoint.parent / "model.onnx").exists()


def test_a_model_without_a_retina_is_exported_as_an_episode(soft_checkpoint, written):
    card = export_checkpoint(soft_checkpoint).card
    assert (card.graph, card.state_size, card.has_maps, card.has_retina) == ("episode", None, True, False)
    assert len(card.budgets) > card.num_glimpses == 2


def test_a_card_describes_model_and_data_without_their_place(checkpoint):
    training, data = load_training(checkpoint)
    card = card_of(training, data)
    assert (card.classes, card.channels, card.height, card.width) == (("ant", "bee"), 1, 16, 20)
    assert (card.num_glimpses, card.glimpse_size, card.num_scales, card.zoom) == (2, 4, 2, 2)
    assert (card.test_error, card.budgets, card.temperature, card.license) == (None, (), 1.0, None)
    assert card.data == "insects"
    assert card.recipe["model"]["hidden"] == 8
    assert card.recipe["data"]["image_width"] == 20
    assert not {"root", "download"} & set(card.recipe["data"])
    assert not {"classes", "image_shape"} & set(card.recipe["model"])


@pytest.mark.parametrize(
    ("options", "policy"),
    [({"image_height": 16, "image_width": 20}, "squash"), ({"fit": "letterbox"}, "fit"), ({}, "squash")],
)
def test_a_card_says_what_was_done_with_images_of_other_sizes(tmp_path, options, policy):
    root = images(tmp_path / "insects", "ant", "bee")
    training, data = load_training(
        save(tmp_path / "last.ckpt", dataset="folder", root=str(root), channels=1, **options)
    )
    card = card_of(training, data)
    assert card.size_policy == policy
    assert (card.recipe["data"]["image_height"], card.recipe["data"]["image_width"]) == (card.height, card.width)


def test_a_card_tells_the_costs_and_the_size(checkpoint):
    training, data = load_training(checkpoint)
    card = card_of(training, data)
    assert card.parameters == sum(parameter.numel() for parameter in training.observer.parameters())
    assert card.multiply_accumulates == costs_of(training.observer, training.image_shape)
    assert len(card.multiply_accumulates) == card.num_glimpses
    assert card.state_size == 8 + 8


def test_an_exported_file_is_not_to_replace_a_folder(tmp_path):
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(ExportError, match=r"a file that can be written, got '.*model\.onnx', which is a folder; name"):
        checkpoint_module.check_output(tmp_path / "model.onnx")
    checkpoint_module.check_output(tmp_path / "other.onnx")


def test_a_program_gets_what_was_measured(checkpoint, monkeypatch):
    asked = []

    def export(observer, card, path, shown):
        asked.append((card, path))
        return ProgramParity(len(shown), 0.0, 0)

    monkeypatch.setattr(checkpoint_module, "export_program", export)
    card, parity = checkpoint_module.export_as_program(checkpoint, Path("it.pt2"), license="MIT", made_by="hand")
    assert asked == [(card, Path("it.pt2"))]
    assert (card.graph, card.state_size, card.license) == ("episode", None, "MIT")
    assert card.recipe["made_by"] == "hand"
    assert card.test_error == evaluate_checkpoint(checkpoint).error
    assert parity.images == len(load_with_data(checkpoint)[1].source.test)


@pytest.fixture
def in_the_file(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How much is added to the logit of the first class by a file of less precision; its cards are seen as well."""
    added = [0.0]

    def believed(observer, card, shown):
        assert card.precision == "int8"

        def of(batches):
            logits, labels = beliefs(observer, batches)
            logits = logits.clone()
            logits[..., 0] += added[0]
            return logits, labels

        return of

    monkeypatch.setattr(checkpoint_module, "logits_of_file", believed)
    return added


def test_a_file_of_less_precision_is_measured_itself(checkpoint, written, in_the_file):
    training, data = load_with_data(checkpoint)
    in_the_file[0] = 1e-3
    card = export_checkpoint(checkpoint, options=ExportOptions(precision="int8")).card
    logits, labels = beliefs(training.observer, data.val_dataloader())
    logits = logits + torch.tensor([1e-3, 0.0])
    assert card.temperature == fit_temperature(logits, labels)
    assert card.budgets == budget_table(logits, labels, card.temperature, card.multiply_accumulates)


def test_a_file_of_less_precision_that_is_worse_is_refused(checkpoint, written, in_the_file, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "MAX_ERROR_INCREASE", -1.0)
    with pytest.raises(ExportError, match=r"file in int8 to be wrong on at most -.*choose another precision"):
        export_checkpoint(checkpoint, options=ExportOptions(precision="int8"))
    assert written == []


def test_the_package_offers_both_exports():
    assert glimpse.export.export_model is model_module.export_model
    assert glimpse.export.export_checkpoint is checkpoint_module.export_checkpoint
    with pytest.raises(AttributeError, match="has no attribute 'export_it'"):
        glimpse.export.export_it  # noqa: B018
