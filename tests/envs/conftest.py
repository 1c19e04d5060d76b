from typing import Any

import pytest
from PIL import Image

from glimpse_envs.registration import ENTRIES, NAMESPACE


@pytest.fixture(params=[entry.id for entry in ENTRIES])
def options(request, tmp_path) -> dict[str, Any]:
    """An id, and what it needs on this machine."""
    given: dict[str, Any] = {"id": f"{NAMESPACE}/{request.param}"}
    entry = next(entry for entry in ENTRIES if entry.id == request.param)
    if entry.options["dataset"] == "mnist":
        given["root"] = str(request.getfixturevalue("mnist_root"))
    if "Folder" in request.param:
        for shade, name in enumerate(("ant", "bee")):
            (tmp_path / name).mkdir()
            for number in range(20):
                Image.new("RGB", (30, 20), (12 * number, 90 * shade, 0)).save(tmp_path / name / f"{number}.png")
        given["root"] = str(tmp_path)
    return given
