"""A first look at a folder of images."""

from pathlib import Path

import pytest
from PIL import Image

from glimpse.cli.automatic.survey import survey_images


def save(folder: Path, name: str, size: tuple[int, int], colour: object, mode: str = "RGB") -> Path:
    Image.new(mode, size, colour).save(folder / name)  # type: ignore[arg-type]
    return folder / name


def test_sizes_are_medians_and_extremes(tmp_path: Path) -> None:
    sizes = [(40, 30), (50, 30), (90, 20)]
    files = [save(tmp_path, f"{number}.png", size, (200, 10, 10)) for number, size in enumerate(sizes)]
    found = survey_images(files, has_boxes=True)
    assert (found.width, found.height, found.side) == (50, 30, 30)
    assert (found.smallest, found.largest) == (20, 90)
    assert not found.is_grey
    assert found.describe() == (
        "colour images of 20 to 90 pixels a side, 50x30 in the median, with boxes that tell where the objects are"
    )


@pytest.mark.parametrize(
    ("colour", "mode", "grey"),
    [((90, 90, 90), "RGB", True), ((91, 90, 89), "RGB", True), (7, "L", True), ((90, 60, 90), "RGB", False)],
)
def test_colour_is_what_differs_between_channels(tmp_path: Path, colour: object, mode: str, grey: bool) -> None:
    assert survey_images([save(tmp_path, "a.png", (40, 40), colour, mode)]).is_grey is grey


def test_what_can_not_be_read_is_passed_over_and_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"no image")
    good = save(tmp_path, "a.png", (40, 40), 7, "L")
    assert survey_images([good, tmp_path / "b.png"]).side == 40
    with pytest.raises(ValueError, match="expected images that can be read, found none among 1 files"):
        survey_images([tmp_path / "b.png"])
