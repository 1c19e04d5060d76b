"""The demo in miniature."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from glimpse.cli import app
from glimpse.cli.demo import command
from glimpse.cli.train.command import main as train_command
from glimpse.evaluation.evaluate import ClassifierEvaluation
from glimpse.export.checkpoint import Exported
from glimpse.export.parity import Parity
from glimpse.runtime.session import GlimpseSession

TINY = """
data: {canvas_height: 40, canvas_width: 52, num_pieces: 3, batch_size: 64, passes: 1}
model: {num_glimpses: 3, glimpse_size: 6, num_scales: 2, hidden: 16, gaze_hidden: 16}
trainer: {max_epochs: 1, limit_train_batches: 2, accelerator: cpu}
"""
EVALUATION = ClassifierEvaluation(
    images=500,
    error=0.052,
    errors={
        "own": [0.502, 0.201, 0.052],
        "random": [0.502, 0.403, 0.304],
        "centre": [0.502, 0.5, 0.485],
        "grid": [0.7, 0.3, 0.126],
    },
    calibration_error=0.017,
    per_class=[],
    confusion=np.diag(np.arange(40, 50)).tolist(),
    num_glimpses=3,
    pixels_sensed=216,
    pixels_of_image=2080,
    multiply_accumulates=21_456,
    parameters=7_469,
    balanced_accuracy=0.9,
    macro_f1=0.89,
    top5_accuracy=None,
    majority_class="7",
    majority_accuracy=0.11,
)
PARITY = Parity(images=8, labels_differ=0, difference=3e-7, ties=0)


class Demo(NamedTuple):
    """A demo that has run, and its output."""

    folder: Path
    """Where it was started; it wrote to ``demo`` inside."""
    page: str
    printed: str
    evaluation: ClassifierEvaluation
    parity: Parity


@pytest.fixture(scope="session")
def demo(tmp_path_factory, exported) -> Demo:
    """The demo in miniature: it trains a tiny model, but its figures are made up and its exported file is another's."""
    folder = tmp_path_factory.mktemp("started")
    (folder / "tiny.yaml").write_text(TINY)
    output = folder / "demo"
    printed: list[str] = []

    def train(args: list[str], program: str) -> int:
        assert program == "glimpse demo"
        assert args[:3] == ["fit", "--config", "digits"]
        assert not (output / "index.html").exists()
        return train_command([*args[:3], "--config", "tiny.yaml", *args[3:]], program)

    def evaluate(checkpoint: Path) -> ClassifierEvaluation:
        assert checkpoint.is_file()
        return EVALUATION

    def export(checkpoint: Path, path: Path) -> Exported:
        assert checkpoint.is_file()
        shutil.copy(exported.path, path)
        return Exported(path, GlimpseSession(path).card, PARITY)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("glimpse.cli.train.command.main", train)
        patch.setattr("glimpse.cli.evaluate.evaluate_checkpoint", evaluate)
        patch.setattr("glimpse.export.checkpoint.export_checkpoint", export)
        patch.setattr(command, "print", lambda text, **_: printed.append(text), raising=False)
        output.mkdir()
        (output / "index.html").write_text("an older page")
        (output / "scanpaths").mkdir()
        (output / "scanpaths" / "99-9.png").touch()
        assert app.main(["demo"]) == 0
    return Demo(folder, (output / "index.html").read_text(encoding="utf-8"), "\n".join(printed), EVALUATION, PARITY)
