"""The width of text in a terminal, and truncation to it."""

import unicodedata
from collections.abc import Sequence


def remove_unprintable(text: str) -> str:
    """Remove unprintable characters: escape sequences, line feeds, direction marks.

    Args:
        text: Any text, such as the name of a folder.
    """
    return "".join(letter for letter in text if letter.isprintable())


def display_width(text: str) -> int:
    """Number of columns of a text on the screen.

    Args:
        text: Printable characters.
    """
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def truncate_to_width(text: str, columns: int) -> str:
    """Remove unprintable characters from a text, and truncate it with an ellipsis if it is too wide.

    Args:
        text: Any text, such as the name of a folder.
        columns: Largest width, at least 1.
    """
    text = remove_unprintable(text)
    if display_width(text) <= columns:
        return text
    while text and display_width(text) >= columns:
        text = text[:-1]
    return f"{text}…"


def format_to_width(sentence: str, names: Sequence[str], columns: int) -> str:
    """Insert names into a sentence; they are truncated so that it fits into a line.

    Args:
        sentence: A format string with one empty field for each name.
        names: At least one name.
        columns: Width of the line.
    """
    room = (columns - display_width(sentence.format(*[""] * len(names)))) // len(names)
    return sentence.format(*(truncate_to_width(name, max(1, room)) for name in names))
