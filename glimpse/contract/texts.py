"""Texts that come from outside: which may enter a model's card, and how any of them is shown. Standard library only.

A class is named after a folder, and a folder's name may hold any bytes: bytes that are no UTF-8 (Python keeps them as
surrogates, PEP 383), escape codes that control a terminal, or marks that turn the direction of writing. A text that
enters a card can be shown, stored and sent as it is; any other text is shown with escapes.
"""

import unicodedata

LONGEST_NAME = 256
"""Characters of a name, such as a class's; a folder's name has 255 bytes at most."""
LONGEST_TEXT = 4096
"""Characters of any other text in a card."""

_CONTROLS = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode's categories of control and format characters, surrogates, and separators of lines and paragraphs."""
_JOINERS = frozenset("\u200c\u200d")
"""Format characters that words are spelled with, as in Persian and in emoji."""


def visible(text: str, longest: int | None = None) -> str:
    r"""Write a text for a terminal, a log or a message, whatever it holds.

    Args:
        text: The text.
        longest: Characters that are kept; the rest becomes an ellipsis. All when left out.

    Returns:
        The text on one line, in valid Unicode. Control and format characters, line ends and bytes that are no UTF-8
        are written as Python's escapes: ``\x1b``, ``\n``, ``\udce9``.
    """
    if longest is not None and len(text) > longest:
        text = f"{text[: longest - 3]}..."
    if text.isprintable():
        return text
    return "".join(mark.encode("unicode_escape").decode() if _is_control(mark) else mark for mark in text)


def visible_lines(text: str) -> str:
    """Write a text of several lines as :func:`visible` writes each of them.

    Args:
        text: The text.
    """
    return "\n".join(map(visible, text.split("\n")))


def text_fault(text: str, longest: int = LONGEST_TEXT) -> str | None:
    r"""Return why a text can't enter a card, in words that follow "a text that", None when it can.

    Args:
        text: The text.
        longest: Characters that it may have.
    """
    if len(text) > longest:
        return f"has {len(text):,} characters, more than {longest:,}"
    if text.isprintable():
        return None
    for mark in text:
        if _is_control(mark):
            surrogate = unicodedata.category(mark) == "Cs"
            return f"holds {visible(mark)}, {'which is no UTF-8' if surrogate else 'a control character'}"
    return None


def name_fault(name: str) -> str | None:
    """Return why a text can't be a name in a card, such as a class's, in words that follow "a name that".

    Args:
        name: The name.
    """
    return text_fault(name, LONGEST_NAME) if name.strip() else "is empty"


def _is_control(mark: str) -> bool:
    return unicodedata.category(mark) in _CONTROLS and mark not in _JOINERS
