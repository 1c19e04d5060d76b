"""Directories of a TIFF, which is the form of EXIF as well: what their fields hold is counted before it is unpacked.

Pillow makes a Python object of each number in a field that it looks at, and two of each fraction, several times over.
The standard library only.

Sources: TIFF 6.0, section 2; BigTIFF; Exif 2.32, sections 4.6.2 and 4.6.3.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

Stream = io.BytesIO | io.BufferedReader
"""An image file, at its start."""
MAX_FIELDS = 1000
"""Fields of all directories that are read of a file: ordinary ones have up to some hundred."""
MAX_NUMBERS = 2**19
"""Numbers in them, all together: as many as describe 2**17 strips and a palette of 16 bits."""
MAX_FRACTIONS = 1000
"""Fractions among them: the colour matrices of a camera have some hundred."""
MAX_PIECES = 2**17
"""Strips or tiles: one a row, in two planes."""

_EXIF, _GPS, _INTEROPERABILITY = 0x8769, 0x8825, 0xA005
_NESTED = (_EXIF, _GPS, _INTEROPERABILITY)
"""Tags of the fields that place a directory within another."""
_WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q"}
"""Types of whole numbers, as codes of :mod:`struct`."""
_BYTES = {1: 1, 2: 1, 7: 1}
"""Types whose values stay bytes, and the bytes of a value; further those of the other types."""
_FRACTIONS = {5: 8, 10: 8}
_SIZES = {**{kind: struct.calcsize(code) for kind, code in _WHOLE.items()}, **_BYTES, **_FRACTIONS, 11: 4, 12: 8}


class StructureError(ValueError):
    """A file built so that it costs far more than its pixels; the message goes on from the file's name."""


class Field(NamedTuple):
    """Where the values of a field are."""

    kind: int
    """The type of its values, a number of the specification."""
    number: int
    """How many there are."""
    place: int
    """The first, bytes from the file's start."""


class Directories:
    """The fields of the first page of a TIFF, or of a block of EXIF.

    Attributes:
        parts: What Pillow takes one by one: fields, fractions, and other numbers by the dozen.

    Args:
        stream: The TIFF, or the block without the word ``Exif`` before it; the position is moved.
        nested: Whether the directories of EXIF and of the place within a TIFF's page are read as well.

    Raises:
        StructureError: When the fields hold more than those of ordinary files. Damaged ones pass: what lies outside
            the file is never unpacked.
    """

    def __init__(self, stream: Stream, nested: bool) -> None:
        self.parts = 0
        self._stream = stream
        self._size = stream.seek(0, 2)
        self._fields: dict[int, Field] = {}
        self._counts: tuple[int, ...] = (0, 0, 0, 0)
        stream.seek(0)
        head = stream.read(4)
        self._order = "<" if head.startswith(b"II") else ">"
        # Pillow takes a BigTIFF with the higher byte first for another one.
        for large in [True] if head[2:3] == b"+" else [False, True] if head[3:4] == b"+" else [False]:
            stream.seek(8 if large else 4)
            with suppress(struct.error):
                self._read(self._unpack("Q" if large else "I")[0], large, nested)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return the whole numbers of a field; none when there is no such field, or it is cut short.

        Args:
            tag: The field's.
        """
        field = self._fields.get(tag)
        if field is None or field.kind not in _WHOLE:
            return ()
        with suppress(struct.error, OverflowError):
            self._stream.seek(field.place)
            return self._unpack(_WHOLE[field.kind], field.number)
        return ()

    def pieces(self, tag: int) -> tuple[int, ...]:
        """Return the numbers of a field that has one for each strip or tile.

        Args:
            tag: The field's.

        Raises:
            StructureError: When there are very many.
        """
        if tag in self._fields and self._fields[tag].number > MAX_PIECES:
            raise StructureError(f"has more than {MAX_PIECES:,} strips or tiles; write it again with larger ones")
        return self.numbers(tag)

    def _read(self, first: int, large: bool, nested: bool) -> None:
        places = [first]
        for place in places:  # which grow meanwhile
            with suppress(struct.error, OverflowError):  # cut short, or damaged
                for tag, field in self._entries(place, large):
                    self._count(field, 8 if large else 4)
                    self._fields.setdefault(tag, field)
            if nested:
                further = [self.numbers(tag)[:1] for tag in _NESTED]
                places += [number for numbers in further for number in numbers if number not in places]

    def _entries(self, place: int, large: bool) -> Iterator[tuple[int, Field]]:
        width, word = (8, "Q") if large else (4, "I")
        self._stream.seek(place)
        for _ in range(self._unpack("Q" if large else "H")[0]):
            tag, kind = self._unpack("H", 2)
            number, here = self._unpack(word)[0], self._stream.tell()
            outside = number * _SIZES.get(kind, 0) > width
            yield tag, Field(kind, number, self._unpack(word)[0] if outside else here)
            self._stream.seek(here + width)

    def _count(self, field: Field, width: int) -> None:
        """Add a field to what was counted."""
        size = field.number * _SIZES.get(field.kind, 0)
        if field.place + size > self._size:
            size = 0
        number = field.number if size else 0
        fraction = field.kind in _FRACTIONS
        whole = number if not fraction and field.kind not in _BYTES else 0
        more = (1, number if fraction else 0, whole, size if size > width else 0)
        fields, fractions, numbers, space = map(sum, zip(self._counts, more, strict=True))
        self._counts = fields, fractions, numbers, space
        self.parts = 3 * fields + fractions + numbers // 12
        if fields > MAX_FIELDS or fractions > MAX_FRACTIONS or numbers > MAX_NUMBERS or space > 2 * self._size:
            raise StructureError(
                f"has more than {MAX_FIELDS:,} fields, {MAX_FRACTIONS:,} fractions or {MAX_NUMBERS:,} numbers in them, "
                "or fields that overlap; write it again without metadata"
            )

    def _unpack(self, code: str, number: int = 1) -> tuple[int, ...]:
        form = f"{self._order}{number}{code}"
        values: tuple[int, ...] = struct.unpack(form, self._stream.read(struct.calcsize(form)))
        return values
