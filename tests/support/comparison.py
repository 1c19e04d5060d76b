"""Recipes and command lines of small comparisons."""

from pathlib import Path

import pytest

from glimpse.cli import app

DATA = """
data:
  class_path: ImageData
  init_args: {{dataset: digits, canvas_height: 24, canvas_width: 32, num_pieces: {pieces}, batch_size: 64}}
"""
MODELS = {
    "hard": "HardAttentionTraining, init_args: {num_glimpses: 3, glimpse_size: 4, num_scales: 2, hidden: 16}",
    "soft": "SoftAttentionTraining, init_args: {num_glimpses: 2, widths: [4, 8], depths: [1, 1], hidden: 16}",
    "plain": "ConvolutionalTraining, init_args: {widths: [4, 8], depths: [1, 1]}",
}
BUDGET = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches=2"]
COMMAND = ["compare", "hard.yaml", "runs/soft/last.ckpt", "plain.yaml", *BUDGET, "--output", "out", "--images", "4"]


def recipe(name: str, pieces: int = 2, epochs: int = 1) -> str:
    """A recipe as YAML."""
    trainer = f"trainer: {{accelerator: cpu, max_epochs: {epochs}}}\n"
    return f"{DATA.format(pieces=pieces)}model: {{class_path: {MODELS[name]}}}\n{trainer}"


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a comparison is refused with, before anything is trained or written."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    assert app.main(["compare", *args]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("glimpse: ")
    assert captured.err.count("\n") == 1
    assert before == {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    return " ".join(captured.err.split())
