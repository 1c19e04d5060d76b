"""Every class that a file on disk names: by a short name if it is ours, so that it loads wherever its module is."""

import re
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch
import yaml
from pytorch_lightning.callbacks import Callback

from glimpse.cli.train import class_names
from glimpse.cli.train.command import main
from glimpse.data import datamodule
from glimpse.data.datamodule import ImageData
from glimpse.training.families import FAMILIES, hard
from glimpse.training.families.hard import HardAttentionTraining

REPOSITORY = Path(__file__).resolve()
while not (REPOSITORY / "pyproject.toml").is_file():
    REPOSITORY = REPOSITORY.parent
FILES = [
    file
    for folder in ("glimpse/cli/train/configs", "benchmarks/recipes", "benchmarks/results")
    for file in sorted((REPOSITORY / folder).glob("*.yaml"))
]
OUR_PATH = re.compile(r"\bglimpse(_envs|_serve)?\.[a-z]")
MODULE = __name__
TINY = """
data: {batch_size: 64}
model: {num_glimpses: 2, hidden: 16, gaze_hidden: 16}
trainer: {max_epochs: 2, limit_train_batches: 2, limit_val_batches: 1, accelerator: cpu}
"""


class Mine(HardAttentionTraining):
    """A user's own family, with an option of its own."""

    def __init__(self, classes: list[str], image_shape: list[int], extra: int = 1, **options: Any) -> None:
        super().__init__(classes, image_shape, **options)
        self.extra = extra


class StopAfterOne(Callback):
    """Stop a run after its first epoch."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a recipe of a tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GLIMPSE_DATA", raising=False)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The resolved configuration of a command line."""
    capsys.readouterr()
    status = main([*args, "--print_config"], "glimpse train")
    output = capsys.readouterr()
    assert status == 0, output.err
    return output.out


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command line is refused with."""
    capsys.readouterr()
    assert main(list(args), "glimpse train") == 2
    return capsys.readouterr().err.strip()


def classes_of(text: str) -> tuple[str, str]:
    """The classes of model and data that a configuration names."""
    options = yaml.safe_load(text)
    return options["model"]["class_path"], options["data"]["class_path"]


def test_there_are_files_of_each_folder():
    assert {file.parent.name for file in FILES} == {"configs", "recipes", "results"}
    assert len(FILES) >= 70


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_committed_file_loads_and_names_no_import_path_of_ours(file, capsys, folder):
    text = file.read_text(encoding="utf-8")
    assert not OUR_PATH.search(text)
    output = printed(capsys, "--config", str(file))
    assert not OUR_PATH.search(output)
    given, resolved = yaml.safe_load(text), yaml.safe_load(output)
    assert classes_of(output) == classes_of(text)
    for group in ("model", "data"):
        assert resolved[group]["class_path"] in class_names.GROUPS[group]
        assert given[group].get("init_args", {}).items() <= resolved[group]["init_args"].items()
    assert given.get("trainer", {}).items() <= resolved["trainer"].items()


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.__name__)
def test_a_family_goes_by_its_short_name_however_it_was_given(family, capsys, folder):
    path = f"{family.__module__}.{family.__name__}"
    for given in (family.__name__, path):
        (folder / "own.yaml").write_text(f"model: {{class_path: {given}}}\n")
        assert classes_of(printed(capsys, "--config", "own.yaml")) == (family.__name__, "ImageData")
        assert classes_of(printed(capsys, "--config", "own.yaml", "--model", given)) == (family.__name__, "ImageData")
    assert class_names.import_path(family.__name__) == path
    assert class_names.short_name(path) == family.__name__


def test_a_class_that_is_not_ours_keeps_its_import_path():
    options = {
        "model": {"class_path": f"{MODULE}.Mine", "init_args": {"class_path": 3, "what": "mlp"}},
        "trainer": {"callbacks": [{"class_path": "pytorch_lightning.callbacks.EarlyStopping"}, None], "max_epochs": 3},
        "data": {"class_path": "glimpse.data.datamodule.ImageData"},
    }
    expected = {**options, "data": {"class_path": "ImageData"}}
    assert class_names.renamed(options, class_names.short_name) == expected
    assert class_names.renamed(expected, class_names.import_path) == options


def test_a_run_names_short_names_and_goes_on_from_them(folder, capsys):
    stop = f"--trainer.callbacks=[{{class_path: {MODULE}.StopAfterOne}}]"
    assert main(["--config", "tiny.yaml", "--output", "run", "--tensorboard", "true", stop], "glimpse train") == 0
    recipe = folder / "run" / "config.yaml"
    text = recipe.read_text()
    assert classes_of(text) == ("HardAttentionTraining", "ImageData")
    assert yaml.safe_load(text)["trainer"]["callbacks"] == [{"class_path": f"{MODULE}.StopAfterOne"}]
    assert text.startswith("# glimpse==")
    assert "\n# pytorch_lightning==" in text
    for file in (folder / "run").iterdir():
        assert not re.search(rb"(?<!tests\.)\bglimpse\.[a-z_]+\.[A-Za-z]", file.read_bytes()), file
    recipe.write_text(text.replace(f"  callbacks:\n  - class_path: {MODULE}.StopAfterOne\n", ""))
    assert main(["--ckpt_path", "run/last.ckpt"], "glimpse train") == 0
    assert classes_of(recipe.read_text()) == ("HardAttentionTraining", "ImageData")
    assert torch.load("run/last.ckpt", weights_only=True)["epoch"] == 1


def test_a_checkpoint_holds_no_import_path(folder):
    assert main(["--config", "tiny.yaml", "--output", "run", "--trainer.max_epochs", "1"], "glimpse train") == 0
    held = torch.load("run/last.ckpt", weights_only=True)
    assert held["glimpse_model"] == "hard"
    for group in ("hyper_parameters", "datamodule_hyper_parameters"):
        assert not {"_instantiator", "_class_path", "class_path"} & held[group].keys()
    del held["state_dict"], held["optimizer_states"]
    assert not OUR_PATH.search(repr(held))


def test_a_users_own_family_keeps_its_import_path_and_goes_on(folder):
    stop = f"--trainer.callbacks=[{{class_path: {MODULE}.StopAfterOne}}]"
    own = ("--model", f"{MODULE}.Mine", "--model.extra", "4")
    assert main(["--config", "tiny.yaml", "--output", "run", stop, *own], "glimpse train") == 0
    recipe = folder / "run" / "config.yaml"
    assert classes_of(recipe.read_text()) == (f"{MODULE}.Mine", "ImageData")
    assert yaml.safe_load(recipe.read_text())["model"]["init_args"]["extra"] == 4
    assert main(["--ckpt_path", "run/last.ckpt"], "glimpse train") == 0
    assert torch.load("run/last.ckpt", weights_only=True)["epoch"] == 1
    assert yaml.safe_load(recipe.read_text())["model"]["init_args"]["extra"] == 4


def test_a_short_name_is_ours_even_where_a_user_has_one_like_it(folder, capsys, monkeypatch):
    (folder / "likeness.py").write_text(
        "from pytorch_lightning.callbacks import Callback\n"
        "from glimpse.data import datamodule\n"
        "from glimpse.training.families import hard\n"
        "class HardAttentionTraining(hard.HardAttentionTraining): pass\n"
        "class ImageData(datamodule.ImageData): pass\n"
        "class Nothing(Callback): pass\n"
    )
    monkeypatch.syspath_prepend(folder)
    (folder / "own.yaml").write_text(
        "trainer: {callbacks: [{class_path: likeness.Nothing}]}\n"
        "model: {class_path: HardAttentionTraining}\ndata: {class_path: ImageData}\n"
    )
    assert classes_of(printed(capsys, "--config", "own.yaml")) == ("HardAttentionTraining", "ImageData")
    (folder / "own.yaml").write_text(
        "model: {class_path: likeness.HardAttentionTraining}\ndata: {class_path: likeness.ImageData}\n"
    )
    assert classes_of(printed(capsys, "--config", "own.yaml")) == (
        "likeness.HardAttentionTraining",
        "likeness.ImageData",
    )
    assert resolve_name(class_names.CLASSES["ImageData"]) is ImageData is datamodule.ImageData
    assert resolve_name(class_names.CLASSES["HardAttentionTraining"]) is hard.HardAttentionTraining


FAMILY_NAMES = ", ".join(family.__name__ for family in FAMILIES.values())


@pytest.mark.parametrize(
    ("group", "given", "sentence"),
    [
        (
            "model",
            "HardAtentionTraining",
            f"expected the name of a class, found none called 'HardAtentionTraining' among {FAMILY_NAMES}; did you "
            "mean HardAttentionTraining?",
        ),
        (
            "data",
            "Xyz",
            "expected the name of a class, found none called 'Xyz' among ImageData; give your own as MODULE.CLASS",
        ),
        (
            "data",
            "glimpse.data.ImageData",
            "expected the short name ImageData, got the import path glimpse.data.ImageData, which this version of "
            "Glimpse does not have",
        ),
        (
            "model",
            "glimpse.gone.SoftTraining",
            f"expected one of {FAMILY_NAMES}, got the import path glimpse.gone.SoftTraining, which this version of "
            "Glimpse does not have; did you mean SoftAttentionTraining?",
        ),
    ],
)
def test_a_class_that_there_is_not_is_refused_with_its_file_and_the_right_name(group, given, sentence, folder, capsys):
    (folder / "own.yaml").write_text(f"{group}: {{class_path: {given}}}\n")
    assert refused(capsys, "--config", "own.yaml") == f"glimpse train: own.yaml: {group}: {sentence}"
    (folder / "own.yaml").write_text(f"{group}: {given}\n")
    assert refused(capsys, "--config", "own.yaml") == f"glimpse train: own.yaml: {group}: {sentence}"
    for option in ([f"--{group}", given], [f"--{group}={given}"]):
        assert refused(capsys, *option) == f"glimpse train: --{group}: {sentence}"
    output = refused(capsys, f"--{group}.class_path", given)
    assert output == f"glimpse train: --{group}.class_path: {sentence}"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("no_such_module.Mine", "No module named 'no_such_module'"),
        (f"{MODULE}.Missing", f"module '{MODULE}' has no attribute 'Missing'"),
    ],
)
def test_a_users_class_that_cannot_be_imported_is_refused_with_the_reason(given, reason, folder, capsys):
    sentence = f"model: expected a class that can be imported, got '{given}': {reason}; correct the path, or add"
    assert sentence in refused(capsys, "--model", given)


@pytest.mark.parametrize(
    ("args", "recipe", "alone"),
    [
        ([], {}, True),
        (["--model=glimpse.training.families.soft.SoftAttentionTraining"], {"trainer": {"callbacks": None}}, True),
        (["--model", "SoftAttentionTraining", "--data.root", "a.b"], {"model": {"class_path": "ImageData"}}, False),
        (["--model", f"{MODULE}.Mine"], {}, False),
        ([], {"data": {"class_path": "their.Data"}}, False),
        ([], {"trainer": {"callbacks": [{"class_path": "pytorch_lightning.callbacks.EarlyStopping"}]}}, False),
        (["--trainer.callbacks+=EarlyStopping"], {}, False),
        (["--trainer.logger", "CSVLogger"], {}, False),
    ],
)
def test_a_training_may_be_of_our_own_classes_alone(args, recipe, alone):
    assert class_names.names_own_alone(args, {"own.yaml": recipe}) == alone
