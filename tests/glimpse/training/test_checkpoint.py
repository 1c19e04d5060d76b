import pickle
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch

from glimpse.data.datamodule import ImageData
from glimpse.training.checkpoint import CLASSIFIER, CheckpointError, finetune, load_training, read_checkpoint
from glimpse.training.families import FAMILIES
from glimpse.training.families.hard import HardAttentionTraining


class Code:
    """What a malicious checkpoint holds: loading it calls a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("was-run"),)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny model, as training writes it."""
    data = ImageData("digits", root="somewhere", canvas_height=40, canvas_width=44)
    training = HardAttentionTraining(data.classes, data.image_shape, num_glimpses=2, hidden=8, gaze_hidden=8)
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(training)
    trainer._data_connector.attach_datamodule(training, datamodule=data)
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    trainer.save_checkpoint(path)
    return path


def changed(checkpoint: Path, folder: Path, **entries: Any) -> Path:
    """A copy of a checkpoint with other entries."""
    torch.save({**torch.load(checkpoint, weights_only=True), **entries}, folder / "changed.ckpt")
    return folder / "changed.ckpt"


def test_model_and_data_come_back_as_they_were(checkpoint):
    training, data = load_training(checkpoint)
    saved = read_checkpoint(checkpoint)["state_dict"]
    assert all(torch.equal(weight, saved[name]) for name, weight in training.state_dict().items())
    assert (training.image_shape, training.observer.num_glimpses, training.training) == ((1, 40, 44), 2, False)
    assert (data.dataset, data.root, data.describe()) == ("digits", "somewhere", "digits on 40x44 canvases")


def test_the_data_may_have_moved(checkpoint):
    assert load_training(checkpoint, root="elsewhere")[1].root == "elsewhere"


def test_nothing_is_downloaded_unasked(checkpoint, tmp_path):
    options = {**read_checkpoint(checkpoint)["datamodule_hyper_parameters"], "download": True}
    assert not load_training(changed(checkpoint, tmp_path, datamodule_hyper_parameters=options))[1].download


def test_a_cache_that_is_gone_is_not_made_again(checkpoint, tmp_path):
    given = torch.load(checkpoint, weights_only=True)["datamodule_hyper_parameters"]
    cache = tmp_path / "cache"
    with_cache = {**given, "dataset": "folder", "cache": str(cache), "canvas_height": 0, "canvas_width": 0}
    moved = changed(checkpoint, tmp_path, datamodule_hyper_parameters=with_cache)
    assert load_training(moved)[1].reading["cache"] is None
    cache.mkdir()
    assert load_training(moved)[1].reading["cache"] == cache


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected a checkpoint at .*no.ckpt, found nothing; give a .ckpt file"):
        load_training(tmp_path / "no.ckpt")
    with pytest.raises(CheckpointError, match="found a folder"):
        load_training(tmp_path)


def test_a_file_of_another_sort_or_a_damaged_one_is_refused(checkpoint, tmp_path):
    for content in (b"", b"hello", checkpoint.read_bytes()[:3000]):
        (tmp_path / "a.ckpt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"a.ckpt is not a checkpoint, or is damaged; give a .ckpt file"):
            load_training(tmp_path / "a.ckpt")


def test_pickled_code_is_refused_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Code()}, "zipped.ckpt")
    Path("plain.ckpt").write_bytes(pickle.dumps({"state_dict": Code()}))
    for name in ("zipped.ckpt", "plain.ckpt"):
        with pytest.raises(CheckpointError, match="is refused: it contains pickled code instead of plain weights"):
            load_training(name)
    assert not Path("was-run").exists()


def test_a_checkpoint_of_another_kind_is_refused(checkpoint, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="is a checkpoint of something other than Glimpse"):
        load_training(tmp_path / "other.ckpt")
    with pytest.raises(
        CheckpointError,
        match=r"expected a checkpoint of a model of the kind hard.*; .* holds one of the kind 'telepathy'",
    ):
        load_training(changed(checkpoint, tmp_path, glimpse_model="telepathy"))


def test_a_checkpoint_of_another_version_is_refused(checkpoint, tmp_path):
    saved = read_checkpoint(checkpoint)
    options = saved["hyper_parameters"]
    for entries, sign in (
        ({"hyper_parameters": {**options, "whiskers": 3}}, "HardAttentionTraining differ .unknown: whiskers"),
        ({"hyper_parameters": {"num_glimpses": 2}}, "missing: classes, image_shape"),
        ({"hyper_parameters": {**options, "hidden": 9}}, "its weights do not fit its options"),
        ({"datamodule_hyper_parameters": None}, "it lacks the entry 'datamodule_hyper_parameters'"),
    ):
        with pytest.raises(CheckpointError, match=f"was written by another version of Glimpse: .*{sign}"):
            load_training(changed(checkpoint, tmp_path, **entries))


def hard(classes: list[str], **options: Any) -> HardAttentionTraining:
    small = {"num_glimpses": 2, "hidden": 8, "gaze_hidden": 8}
    return HardAttentionTraining(classes, [1, 40, 44], **(small | options))


@pytest.mark.parametrize("kind", FAMILIES)
def test_nothing_but_the_classifier_depends_on_the_classes(kind):
    three, five = (FAMILIES[kind](list("abcde")[:count], [1, 32, 32]).state_dict() for count in (3, 5))
    assert three.keys() == five.keys()
    differ = {name for name in three if three[name].shape != five[name].shape}
    assert differ == {name for name in three if name.startswith(CLASSIFIER)}
    assert differ


@pytest.mark.parametrize("classes", [["ant", "bee", "cat"], list("abcdefghij")])
def test_for_other_classes_the_classifier_begins_anew(classes, checkpoint):
    training, saved = hard(classes, class_weights="balanced"), read_checkpoint(checkpoint)["state_dict"]
    before = {name: weight.clone() for name, weight in training.state_dict().items()}
    found = finetune(training, checkpoint)
    assert found.anew == ("classifier",)
    assert {"core", "encoder", "policy", "mean"} <= set(found.taken)
    for name, weight in training.state_dict().items():
        kept = name.startswith(CLASSIFIER) or name == "class_weights"
        assert torch.equal(weight, before[name] if kept else saved[name]), name
    assert training.is_finetuned


def test_for_the_same_classes_every_weight_is_taken(checkpoint):
    training, saved = hard(list("0123456789")), read_checkpoint(checkpoint)["state_dict"]
    assert finetune(training, checkpoint).anew == ()
    assert all(torch.equal(weight, saved[name]) for name, weight in training.state_dict().items())


def test_the_pixels_are_measured_by_those_that_the_weights_were_trained_for(checkpoint):
    training = hard(["ant", "bee"])
    finetune(training, checkpoint)
    training.observer.model.get_buffer("mean").fill_(0.125)
    data = ImageData("digits", canvas_height=40, canvas_width=44)
    training.trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    training.trainer._data_connector.attach_datamodule(training, datamodule=data)
    training.on_fit_start()
    assert training.observer.model.get_buffer("mean").tolist() == [0.125]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"hidden": 16}, r"got core\.cell\.bias_hh with 24, not 48: hidden was 8, is 16; give the same options"),
        ({"num_scales": 3, "what": "conv"}, r"num_scales was 2, is 3.*what was mlp, is conv; give the same options"),
        ({"policy": "grid"}, r"got policy\.mean\.bias with 2, not nothing: policy was gaussian, is grid"),
    ],
)
def test_a_model_of_other_shapes_is_refused_with_the_options_that_differ(options, sentence, checkpoint):
    training = hard(["ant", "bee"], **options)
    before = {name: weight.clone() for name, weight in training.state_dict().items()}
    with pytest.raises(CheckpointError, match=sentence):
        finetune(training, checkpoint)
    assert all(torch.equal(weight, before[name]) for name, weight in training.state_dict().items())
    assert not training.is_finetuned


def test_a_model_of_another_family_is_refused_with_both_names(checkpoint):
    sentence = r"family SoftAttentionTraining, which is to be trained, got one of HardAttentionTraining; train that"
    with pytest.raises(CheckpointError, match=sentence):
        finetune(FAMILIES["soft"](["ant", "bee"], [1, 40, 44]), checkpoint)
