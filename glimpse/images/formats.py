"""The image formats that are read, by the ends of the files' names: one list for training, classifying and serving."""

IMAGE_SUFFIXES = frozenset(
    (
        ".png",
        *(".jpg", ".jpeg", ".jpe", ".jfif"),
        *(".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm"),
        ".bmp",
        ".gif",
        ".webp",
    )
)
"""In small letters. Browsers on Windows save JPEG files as ``.jfif``."""
_ADVICE = {
    ".heic": "a HEIC photograph: convert it to JPEG (the package pillow-heif reads it)",
    ".heif": "a HEIF photograph: convert it to JPEG (the package pillow-heif reads it)",
    ".svg": "a drawing in SVG: render it to PNG first",
    ".pdf": "a PDF: save its pages as PNG first",
    ".zip": "an archive: unpack it first",
}
for _raw in (".cr2", ".nef", ".arw", ".dng"):
    _ADVICE[_raw] = "a camera's raw file: develop it to JPEG first"


def advice_for(suffix: str) -> str | None:
    """Return why files of a well-known format are not read and what to do, or None.

    Args:
        suffix: The end of a file's name, in small letters, with its dot.
    """
    return _ADVICE.get(suffix)
