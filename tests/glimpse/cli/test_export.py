"""``glimpse export`` from the command line, without exporting anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from glimpse.cli import app
from glimpse.export import checkpoint as checkpoint_module
from glimpse.export.checkpoint import Exported, ExportOptions
from glimpse.export.parity import Parity
from glimpse.export.program import ProgramParity
from glimpse.export.targets import EXPORT_TARGETS, KServeTarget, Target, TritonTarget
from tests.glimpse.cli.test_app import refused
from tests.glimpse.contract.test_card import CARD


@pytest.mark.parametrize(
    ("args", "form"),
    [
        ([], ExportOptions()),
        (["--graph", "step", "--type", "int8", "--input", "float32"], ExportOptions("step", "float32", "int8")),
        (["--type", "float16", "--target", "gpu"], ExportOptions(precision="float16", chosen_target="gpu")),
        (["--license", "MIT"], ExportOptions(license="MIT")),
        (["--weights", "float16"], ExportOptions(weights="float16")),
        (["--made-by", "glimpse train --seed 0"], ExportOptions(made_by="glimpse train --seed 0")),
    ],
)
def test_an_export_is_asked_for_in_its_form(args, form, monkeypatch, capsys, tmp_path):
    file, requests = tmp_path / "my model.onnx", []

    def export(checkpoint, output, root, form):
        requests.append((checkpoint, output, root, form))
        file.write_bytes(bytes(1_500_000))
        card = replace(CARD, graph=form.graph or "adaptive", precision=form.precision, test_error=0.0312)
        return Exported(file, card, Parity(1000, 2e-6, 1, 0))

    monkeypatch.setattr(checkpoint_module, "export_checkpoint", export)
    assert app.main(["export", "a.ckpt", "--output", str(file), *args]) == 0
    assert requests == [(Path("a.ckpt"), file, None, form)]
    printed = capsys.readouterr().out
    assert f"wrote {file} (1.5 MB): hard, {form.graph or 'adaptive'} graph in {form.precision}, 6 glimpses" in printed
    assert "test error 3.12%" in printed
    assert (
        "1000 test images: every label is the same, probabilities differ by at most 2e-06, 1 rounding ties" in printed
    )
    assert f"inspect '{file}'" in printed
    assert f"classify '{file}' IMAGE... " in printed
    assert ("--confidence 0.99" in printed) is (form.graph is None)


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Target]:
    """The targets that exports were delivered to."""
    targets: list[Target] = []
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model")

    def deliver(target, model, card):
        assert (model, card) == (file, CARD)
        targets.append(target)
        return target.place

    exported = Exported(file, CARD, Parity(1000, 2e-6, 0, 0))
    monkeypatch.setattr(checkpoint_module, "export_checkpoint", lambda *_: exported)
    for kind in EXPORT_TARGETS.values():
        monkeypatch.setattr(kind, "deliver", deliver)
    return targets


def test_an_export_is_handed_on_to_a_server(delivered, capsys):
    assert app.main(["export", "runs/seven/a.ckpt", "--to", "triton", "models"]) == 0
    assert (
        app.main(
            [
                "export",
                "a.ckpt",
                "--to",
                "kserve",
                "it.yaml",
                "--storage-uri",
                "s3://b/m",
                "--name",
                "it",
                "--target",
                "gpu",
            ]
        )
        == 0
    )
    assert delivered == [
        TritonTarget(Path("models"), "seven"),
        KServeTarget(Path("it.yaml"), "it", gpu=True, storage_uri="s3://b/m"),
    ]
    printed = capsys.readouterr().out
    assert "wrote models, for the model 'seven'; docs/deployment.md says how to serve it" in printed
    assert "wrote it.yaml, for the model 'it'" in printed


def test_an_export_as_a_program_says_what_it_compared(monkeypatch, capsys, tmp_path):
    file = tmp_path / "it.pt2"
    file.write_bytes(bytes(2_500_000))
    requests = []

    def export(*given):
        requests.append(given)
        return replace(CARD, test_error=0.01), ProgramParity(1000, 0.0, 0)

    monkeypatch.setattr(checkpoint_module, "export_as_program", export)
    options = ["--license", "MIT", "--made-by", "hand"]
    assert app.main(["export", "a.ckpt", "--to", "program", str(file), "--root", "data", *options]) == 0
    assert requests == [(Path("a.ckpt"), file, "data", "MIT", "hand")]
    printed = capsys.readouterr().out
    assert f"wrote {file} (2.5 MB): hard, episode graph in float32, 6 glimpses" in printed
    assert "1000 test images: every label is the same, outputs differ by at most 0e+00" in printed


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--to", "tritn", "x"], "--to: expected one of triton, kserve, program, got 'tritn'; did you mean triton?"),
        (["--to", "", "x"], "--to: expected one of triton, kserve, program, got ''"),
        (["--to", "kserve", "x.yaml"], "expected --storage-uri with --to kserve, such as s3://bucket/models"),
        (["--name", "it"], "expected --to triton or --to kserve with --name, got none; add it, or leave --name out"),
        (["--storage-uri", "s3://b/m"], "expected --to kserve with --storage-uri, got no --to; leave --storage-uri"),
        (["--to", "triton", "m", "--storage-uri", "s3://b/m"], "expected --to kserve with --storage-uri, got triton;"),
        (["--to", "triton", "m", "--name", "a/b"], "expected a model name of 1 to 63 letters, digits, '.', '_' and"),
        (["--to", "triton", "m", "--name", ""], "that begins with a letter or a digit, got ''; choose another"),
        (["--to", "triton", "no/m", "--name", "it"], "expected a folder to hold the model repository, 'no/m' is none"),
        (["--to", "kserve", "x.yaml", "--name", "It", "--storage-uri", "s3://b/m"], "(a DNS label), got 'It'; choose"),
        (["--to", "kserve", "x.yaml", "--name", "it", "--storage-uri", "b/m"], "expected an address such as s3://"),
        (
            ["--to", "kserve", "no/x.yaml", "--name", "it", "--storage-uri", "s3://b/m"],
            "'no/x.yaml', whose folder 'no'",
        ),
        (["--output", "no/model.onnx"], "expected a file that can be written, got 'no/model.onnx', whose folder"),
        (["--output", "model.pt"], "expected a file name that ends in .onnx, got model.pt; change --output"),
        (["--to", "program", "model.pt"], "expected a file name that ends in .pt2, got 'model.pt'; rename it"),
        (["--to", "program", "no/model.pt2"], "'no/model.pt2', whose folder 'no' does not exist; make the"),
    ],
)
def test_a_destination_that_will_not_do_is_refused_before_anything_is_made(
    args, sentence, monkeypatch, delivered, capsys, tmp_path
):
    def export(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(checkpoint_module, "export_checkpoint", export)
    monkeypatch.setattr(checkpoint_module, "load_with_data", export)
    monkeypatch.chdir(tmp_path)
    assert app.main(["export", "a.ckpt", *args]) == 2
    assert sentence in capsys.readouterr().err
    assert delivered == []
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--output", "model.onnx"),
        ("--graph", "step"),
        ("--type", "float32"),
        ("--weights", "float16"),
        ("--input", "uint8"),
        ("--target", "gpu"),
        ("--name", "it"),
        ("--storage-uri", "s3://b/m"),
    ],
)
def test_a_program_takes_no_option_that_it_would_pass_over(option, value, capsys):
    printed = refused(capsys, "export", "a.ckpt", "--to", "program", "it.pt2", option, value)
    assert f"expected no {option} with --to program, which writes the episode in float32, for uint8 pixels" in printed
    assert printed.endswith("; leave it out\n")


@pytest.mark.parametrize(("kind", "folder"), [("kserve", "My_Run"), ("triton", "my run")])
def test_a_checkpoints_folder_that_is_no_name_is_told_with_the_option_that_gives_one(kind, folder, capsys, tmp_path):
    more = ["--storage-uri", "s3://b/m"] if kind == "kserve" else []
    checkpoint = str(tmp_path / folder / "last.ckpt")
    printed = refused(capsys, "export", checkpoint, "--to", kind, str(tmp_path / "it"), *more)
    assert printed.startswith("glimpse: without --name, a model is called like its checkpoint's folder: expected a ")
    assert printed.endswith(f"got {folder!r}; choose another with --name\n")


def test_labels_that_differ_with_less_precision_are_told(monkeypatch, capsys, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"")
    card = replace(CARD, precision="int8", has_maps=True, num_glimpses=1, test_error=0.5)
    exported = Exported(file, card, Parity(1000, 0.04, 0, 3))
    monkeypatch.setattr(checkpoint_module, "export_checkpoint", lambda *_: exported)
    assert app.main(["export", "a.ckpt", "--type", "int8"]) == 0
    printed = capsys.readouterr().out
    assert "in int8, 1 glimpse, " in printed
    assert "3 labels differ, probabilities and attention weights differ by at most 4e-02" in printed
