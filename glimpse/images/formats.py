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
    ".avif": "an AVIF image: convert it to PNG or JPEG (Pillow reads it from 11.3 on)",
    ".avifs": "a film in AVIF: save its pictures as PNG or JPEG (Pillow reads it from 11.3 on)",
    ".jxl": "a JPEG XL image: convert it to PNG or JPEG (the package pillow-jxl-plugin reads it)",
    ".jp2": "a JPEG 2000 image: convert it to PNG or JPEG (Pillow reads it)",
    ".psd": "a Photoshop document: export it as PNG",
    ".svg": "a drawing in SVG: render it to PNG first",
    ".pdf": "a PDF: save its pages as PNG first",
    ".zip": "an archive: unpack it first",
}
for _raw in (".cr2", ".nef", ".arw", ".dng"):
    _ADVICE[_raw] = "a camera's raw file: develop it to JPEG first"
_FILE_TYPES = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis"), ".heic"),
    **dict.fromkeys((b"mif1", b"msf1"), ".heif"),
    b"avif": ".avif",
    b"avis": ".avifs",
}
"""Brands of the file type box with which files of these formats begin (ISO/IEC 14496-12, 23008-12), and their names."""


def advice_for_content(head: bytes) -> str | None:
    """Return what :func:`advice_for` says of a file that is known by its content, whatever its name; or None.

    Args:
        head: The file's first 12 bytes, or more of them.
    """
    suffix = _FILE_TYPES.get(head[8:12]) if head[4:8] == b"ftyp" else None
    return suffix and advice_for(suffix)


def advice_for(suffix: str) -> str | None:
    """Return why files of a well-known format are not read and what to do, or None.

    Args:
        suffix: The end of a file's name, in small letters, with its dot.
    """
    return _ADVICE.get(suffix)
