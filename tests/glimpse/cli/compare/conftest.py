"""A comparison that has been made."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from glimpse.cli import app
from glimpse.cli.compare import command as command_module
from tests.support.comparison import COMMAND, MODELS, recipe


class Done(NamedTuple):
    """A comparison that has been made: two models trained, one loaded."""

    folder: Path
    """Where it was started; it wrote to ``out`` inside."""
    page: str
    figures: dict[str, Any]
    printed: str


@pytest.fixture(scope="session")
def done(tmp_path_factory) -> Done:
    folder = tmp_path_factory.mktemp("started")
    for name in MODELS:
        (folder / f"{name}.yaml").write_text(recipe(name))
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert app.main(["train", "--config", "soft.yaml", "--trainer.limit_train_batches", "3"]) == 0
        patch.setattr(command_module, "print", lambda text, **_: printed.append(text), raising=False)
        assert app.main(COMMAND) == 0
    figures = json.loads((folder / "out" / "comparison.json").read_text())
    return Done(folder, (folder / "out" / "index.html").read_text(encoding="utf-8"), figures, "\n".join(printed))


@pytest.fixture
def started(done, tmp_path, monkeypatch) -> Path:
    """A folder to start in, with the recipes and the runs of the finished comparison."""
    folder: Path = tmp_path / "copy"
    shutil.copytree(done.folder, folder)
    monkeypatch.chdir(folder)
    return folder
