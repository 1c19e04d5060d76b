"""A folder of pictures: each is named after its image, written whole or not at all, and replaces none but our own."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from glimpse.files import whole_path

FILM_FORMATS = ("gif", "webp")
"""What films are written as: GIF, which everything shows, in 256 colours; or WebP, which keeps every pixel's colour."""
_SOFTWARE = "Glimpse"
"""Marks the pictures that we drew, the only files that a later run may replace."""
_EXIF_SOFTWARE = 0x0131
_MOST_SAMPLED = 8
"""Frames, about, from which the colours of a film are chosen."""


class PictureFolder:
    """A folder that pictures are written into. It is made when it isn't there.

    Args:
        folder: The folder.
        sources: Files that must not be replaced, whatever they are.

    Raises:
        OSError: When the folder can't be made.
    """

    def __init__(self, folder: Path, sources: Iterable[Path] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._sources = {path.resolve() for path in sources}
        self._drawn: set[str] = set()

    def add(self, picture: Image.Image, stem: str) -> Path:
        """Write a picture as PNG.

        Args:
            picture: The picture.
            stem: Its name, which is numbered where it is taken.

        Returns:
            The file.

        Raises:
            OSError: When it can't be written.
        """
        mark = PngImagePlugin.PngInfo()
        mark.add_text("Software", _SOFTWARE)
        return self._write(stem, "png", lambda path: picture.save(path, "PNG", pnginfo=mark))

    def add_film(
        self,
        frames: Sequence[Image.Image],
        stem: str,
        milliseconds: Sequence[int],
        film_format: str = "gif",
        colours: Sequence[tuple[int, ...]] = (),
    ) -> Path:
        """Write frames as a film that begins again when it ends.

        Args:
            frames: RGB pictures of one size, at least one.
            stem: Its name, which is numbered where it is taken.
            milliseconds: How long each frame stays.
            film_format: One of ``FILM_FORMATS``.
            colours: RGB, 0 to 255, at most 128: those that a film of 256 colours must show exactly.

        Returns:
            The file.

        Raises:
            OSError: When it can't be written.
            ValueError: When there is no frame, not a duration for each, or no such format.
        """
        if not frames or len(milliseconds) != len(frames):
            raise ValueError(f"expected frames and a duration for each, got {len(frames)} and {len(milliseconds)}")
        if film_format not in FILM_FORMATS:
            raise ValueError(f"expected one of {', '.join(FILM_FORMATS)} as a film's format, got {film_format!r}")
        options: dict[str, Any] = {"format": film_format.upper(), "save_all": True, "loop": 0}
        if film_format == "gif":
            shown = _with_one_palette(frames, colours)
            options |= {"comment": _SOFTWARE.encode(), "disposal": 1, "optimize": False}
        else:
            shown, exif = list(frames), Image.Exif()
            exif[_EXIF_SOFTWARE] = _SOFTWARE
            options |= {"exif": exif.tobytes(), "lossless": True}
        first, *others = shown
        options |= {"append_images": others, "duration": list(milliseconds) if others else milliseconds[0]}
        return self._write(stem, film_format, lambda path: first.save(path, **options))

    def _write(self, stem: str, suffix: str, save: Callable[[Path], None]) -> Path:
        path = self._free_path(stem, suffix)
        with whole_path(path) as draft:
            save(draft)
        self._drawn.add(path.name.casefold())
        return path

    def _free_path(self, stem: str, suffix: str) -> Path:
        number = 1
        while True:
            path = self.folder / (f"{stem}.{suffix}" if number == 1 else f"{stem}-{number}.{suffix}")
            taken = path.name.casefold() in self._drawn or path.resolve() in self._sources
            if not taken and _is_replaceable(path):
                return path
            number += 1


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture whole or not at all.

    Args:
        picture: The picture.
        path: The file, whose suffix names the format.

    Raises:
        OSError: When it can't be written.
    """
    with whole_path(path) as draft:
        picture.save(draft)


def _with_one_palette(frames: Sequence[Image.Image], colours: Sequence[tuple[int, ...]]) -> list[Image.Image]:
    """Give frames the same 256 colours, undithered, so that what rests does not flicker."""
    width, height = frames[0].size
    some = frames[:: -max(1, len(frames) // _MOST_SAMPLED)]
    strip = Image.new("RGB", (width, height * len(some)))
    for index, frame in enumerate(some):
        strip.paste(frame, (0, index * height))
    others = strip.quantize(256 - len(colours), Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(value for colour in colours for value in colour), *others][: 3 * 256])
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]


def _is_replaceable(path: Path) -> bool:
    if not path.exists():
        return True
    try:
        with Image.open(path, formats=["PNG", "GIF", "WEBP"]) as picture:
            said = picture.info.get("comment" if picture.format == "GIF" else "Software")
            if picture.format == "WEBP":
                said = picture.getexif().get(_EXIF_SOFTWARE)
            return said in (_SOFTWARE, _SOFTWARE.encode())
    except (UnidentifiedImageError, OSError):
        return False
