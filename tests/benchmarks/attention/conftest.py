"""Runs of small models that have not learned, and images with the boxes of their digits."""

from pathlib import Path

import pytest
import pytorch_lightning as lightning

from benchmarks.attention import map_worth
from glimpse.data.datamodule import ImageData
from glimpse.training.callbacks import LAST_FILE
from tests.support.families import DATA, SMALL, small


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with a checkpoint each, as training writes them, of models that have not learned."""
    folder = tmp_path_factory.mktemp("runs")
    for kind in SMALL:
        trainer = lightning.Trainer(
            max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
        )
        trainer.fit(small(kind), datamodule=ImageData(**DATA, batch_size=8))
        trainer.save_checkpoint(folder / kind / LAST_FILE)
    return {kind: folder / kind for kind in SMALL}


@pytest.fixture(scope="session")
def shown() -> map_worth.Shown:
    data = ImageData(**DATA)
    images, labels = next(iter(data.test_dataloader()))
    return map_worth.Shown(images[:12].float() / 255, labels[:12], data.test_boxes()[:12])
