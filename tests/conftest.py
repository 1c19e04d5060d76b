"""What every test shares: threads that don't spin, signatures that are checked, real images, and one exported model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from torch import Tensor

    from glimpse.models.hard import HardAttention

REPOSITORY = Path(__file__).resolve().parents[1]

# Before torch is imported: the tests' kernels are tiny, and on few cores two spinning threads are slower than one.
for variable, value in {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "KMP_BLOCKTIME": "0",
    "GOMP_SPINCOUNT": "0",
}.items():
    os.environ.setdefault(variable, value)

# Before glimpse is imported: shapes and types in our signatures are checked at every call under pytest, and only there.
# Dynamo can't trace the hook, so tests of export, while_loop and torch.compile run in a subprocess, which has none.
# GLIMPSE_NO_TYPECHECK=1 leaves it out of a whole run, to measure or to step through with a debugger.
if not os.environ.get("GLIMPSE_NO_TYPECHECK"):
    install_import_hook(["glimpse", "glimpse_envs", "glimpse_serve"], "beartype.beartype")


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """Folder that holds MNIST/raw, as ``torchvision.datasets.MNIST(root=...)`` wants it; skips where there is none.

    ``GLIMPSE_DATA`` names it; without that, it is a folder ``shared/data`` beside the checkout.
    """
    named = os.environ.get("GLIMPSE_DATA")
    root = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (root / "MNIST" / "raw").is_dir():
        pytest.skip(f"MNIST is not in {root}; set GLIMPSE_DATA to the folder that holds MNIST/raw")
    return root


@pytest.fixture(scope="session", params=["digits", "mnist"])
def real_images(request: pytest.FixtureRequest) -> Tensor:
    """Held-out digits on canvases wider than they are high, uint8 (24, 1, 44, 60)."""
    from glimpse.data.datamodule import ImageData

    root = str(request.getfixturevalue("mnist_root")) if request.param == "mnist" else None
    data = ImageData(request.param, root, canvas_height=44, canvas_width=60, num_pieces=3)
    images: Tensor = next(iter(data.test_dataloader()))[0][:24]
    return images


class Exported(NamedTuple):
    """A model, and the file that it was exported to."""

    path: Path
    model: HardAttention
    glimpse_size: int
    num_scales: int
    zoom: int
    num_glimpses: int
    images: Tensor
    """What the two were compared on, uint8 (8, 1, 40, 52)."""


SMALL = {
    "num_classes": 10,
    "channels": 1,
    "glimpse_size": 6,
    "num_scales": 2,
    "hidden": 20,
    "what": "conv",
    "combine": "multiply",
    "core": "gru",
    "policy": "gaussian",
    "relative": True,
    "gaze": "eyes",
    "gaze_hidden": 12,
}
EXPORT = """
import json, sys
from pathlib import Path
import torch
from glimpse.contract import ModelCard
from glimpse.export import export_episode, versions
from glimpse.models.hard import HardAttention, HardObserver
from glimpse.retina import Retina

folder, small = Path(sys.argv[1]), json.loads(sys.argv[2])
model = HardAttention(**small)
model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
images = torch.load(folder / "images.pt", weights_only=True)
shape, classes = images.shape[1:], tuple("0123456789")
card = ModelCard("hard", classes, *shape, "fit", 3, 6, 2, 2, False, True, "digits", small, None, versions())
export_episode(HardObserver(model, Retina(6, 2, 2), 3), card, folder / "model.onnx", images)
"""


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A small model of random weights with a restless gaze, exported once a session, without the hook."""
    import torch

    from glimpse.data.datamodule import ImageData
    from glimpse.models.hard import HardAttention

    folder = tmp_path_factory.mktemp("exported")
    data = ImageData("digits", canvas_height=40, canvas_width=52, num_pieces=3)
    images = next(iter(data.test_dataloader()))[0][:8].clone()
    torch.manual_seed(7)
    model = HardAttention(**SMALL).eval()  # type: ignore[arg-type]
    model.mean.fill_(0.13)
    model.std.fill_(0.31)
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and not name.startswith(("core", "gaze_core")):
            torch.nn.init.kaiming_normal_(parameter, a=0.2)
    torch.nn.init.normal_(model.policy.mean.weight, std=1.5)  # type: ignore[attr-defined]
    torch.nn.init.normal_(model.classifier.weight, std=2.0)
    torch.save(model.state_dict(), folder / "weights.pt")
    torch.save(images, folder / "images.pt")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", EXPORT, str(folder), json.dumps(SMALL)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    return Exported(folder / "model.onnx", model, 6, 2, 2, 3, images)
