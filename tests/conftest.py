"""What every test shares: threads that don't spin, signatures that are checked, and where MNIST lies."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

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
    """Folder that holds MNIST/raw, as ``torchvision.datasets.MNIST(root=...)`` wants it; skips where there is none."""
    named = os.environ.get("GLIMPSE_DATA")
    root = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (root / "MNIST" / "raw").is_dir():
        pytest.skip(f"MNIST is not in {root}; set GLIMPSE_DATA to the folder that holds MNIST/raw")
    return root
