"""Errors that name the arguments they are about, and the nearest name to a mistyped one.

Each front end writes the names of arguments in its own way.

The library writes arguments as in Python: ``jitter``, ``download=True``. A command line writes the same sentence with
``--data.jitter`` and ``--data.download true``. A sentence is therefore kept in parts, and becomes text only when it is
shown. Text that is inserted into a part may hold anything, braces included: no part is ever parsed.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Argument:
    """An argument of a function or a class.

    Attributes:
        name: Its name in Python.
    """

    name: str


@dataclass(frozen=True)
class Setting(Argument):
    """An argument together with a value.

    Attributes:
        value: The value in Python.
    """

    value: Any


Spelling = Callable[[Argument], str | None]
"""How a front end writes an argument; it returns None where the front end has no option for it."""


def in_python(argument: Argument) -> str:
    """Write an argument as a call in Python does: ``jitter``, or ``download=True`` with a value."""
    return f"{argument.name}={argument.value!r}" if isinstance(argument, Setting) else argument.name


class Sentence:
    """A sentence with arguments in it.

    Args:
        parts: Text, arguments, and further sentences, in their order. Text stays as it is.
    """

    def __init__(self, *parts: "Part") -> None:
        self.parts = parts

    def __str__(self) -> str:
        return self.render()

    def render(self, spelling: Spelling = in_python) -> str:
        """Write the sentence for a front end.

        Args:
            spelling: How the front end writes an argument. One that it has no option for is written as in Python.
        """
        return "".join(_written(part, spelling) for part in self.parts)

    def arguments(self) -> Iterator[Argument]:
        """All arguments that the sentence names, in their order."""
        for part in self.parts:
            if isinstance(part, Argument):
                yield part
            elif isinstance(part, Sentence):
                yield from part.arguments()


class Clause(Sentence):
    """A part of a sentence that is left out where a front end has no option for one of its arguments."""


Part = str | Argument | Sentence


class ArgumentError(ValueError):
    """An argument that is missing, out of its range, or does not fit another one.

    Args:
        parts: The parts of the sentence, as :class:`Sentence` takes them.
    """

    def __init__(self, *parts: Part) -> None:
        super().__init__(*parts)
        self.sentence = Sentence(*parts)

    def __str__(self) -> str:
        return self.render()

    @property
    def argument(self) -> str | None:
        """Name of the argument at fault, which is the first in the sentence; None where the sentence names none."""
        return next((argument.name for argument in self.sentence.arguments()), None)

    def render(self, spelling: Spelling = in_python) -> str:
        """Write the sentence for a front end, see :meth:`Sentence.render`."""
        return self.sentence.render(spelling)

    def only(self, *names: str) -> "ArgumentError":
        """The same error, of the same class, for a caller that has only some of the arguments.

        Args:
            names: The arguments that the caller has; clauses that name another one are left out.
        """
        parts = self.sentence.parts
        return type(self)(*(part for part in parts if not isinstance(part, Clause) or _names(part) <= {*names}))


def _written(part: Part, spelling: Spelling) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Argument):
        written = spelling(part)
        return in_python(part) if written is None else written
    if isinstance(part, Clause) and any(spelling(argument) is None for argument in part.arguments()):
        return ""
    return part.render(spelling)


def _names(sentence: Sentence) -> set[str]:
    return {argument.name for argument in sentence.arguments()}


SIMILAR = 0.5
"""Similarity from which on a name may have been meant."""


def similarity(one: str, other: str) -> float:
    """How similar two names are, from 0 to 1 for the same (Ratcliff and Obershelp's measure)."""
    return difflib.SequenceMatcher(None, one, other).ratio()


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """The name that is most similar to a mistyped one, the first of several; None where none is similar.

    Args:
        wrong: What was typed.
        known: The names there are.
    """
    likeness = {name: similarity(wrong, name) for name in known}
    best = max(likeness, key=lambda name: likeness[name], default=None)
    return best if best is not None and likeness[best] >= SIMILAR else None


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """The end of a message about a mistyped name: the nearest right one; empty where none is similar.

    Args:
        wrong: What was typed.
        known: The names there are.
    """
    meant = nearest(wrong, known)
    return f"; did you mean {meant}?" if meant else ""
