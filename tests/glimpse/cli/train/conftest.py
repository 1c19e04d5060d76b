"""An empty folder with a recipe, in which training commands run."""

from pathlib import Path

import pytest

TINY = """
data: {batch_size: 64, canvas_height: 40, canvas_width: 44, num_pieces: 2}
model: {num_glimpses: 3, num_scales: 2, hidden: 16, gaze_hidden: 16, what: mlp}
trainer: {max_epochs: 2, limit_train_batches: 3, accelerator: cpu}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a recipe of a tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GLIMPSE_DATA", raising=False)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path
