"""Errors of the library, checked as Python writes them and as a command line does."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from glimpse.cli.usage import spelling
from glimpse.errors import ArgumentError


@contextmanager
def rejected(sentence: str, group: str = "model", options: Mapping[str, str] | None = None) -> Iterator[None]:
    """Expect an error whose sentence matches, with the options of the training and with the arguments of Python.

    Args:
        sentence: A pattern with options in it, such as ``expected --model.hidden of at least 1``. For Python it is
            taken without what the options have before the name.
        group: The group of options that the arguments belong to.
        options: The command line's options by the names of the arguments; those of the group when left out.
    """
    with pytest.raises(ValueError, match=r"\w") as caught:
        yield
    error = caught.value
    if not isinstance(error, ArgumentError):
        assert re.search(sentence, str(error)), str(error)
        return
    names = [argument.name for argument in error.sentence.arguments()]
    assert error.argument == next(iter(names), None)
    on_the_command_line = error.render(spelling(options or {name: f"--{group}.{name}" for name in names}))
    assert re.search(sentence, on_the_command_line), on_the_command_line
    in_python = re.sub(rf"--({group}\\?\.)?", "", sentence)
    assert re.search(in_python, str(error)), str(error)
