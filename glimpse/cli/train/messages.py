"""Error messages for wrong options of a training: the option, the file that sets it, and the expected value."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from glimpse.cli.usage import UsageError
from glimpse.errors import SIMILAR, ArgumentError, Spelling, similarity

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
DECIDED = {
    "data.seed": "it follows from --seed",
    "model.seed": "it follows from --seed",
    "seed_everything": "it follows from --seed",
    "model.classes": "it follows from the data",
    "model.image_shape": "it follows from the data",
}
"""Options that a user can't set, and the reason, which the error states."""
OPTION_GROUPS = ("trainer", "model", "data")
"""Groups of options, each for the arguments of a class."""
WRAPPED = "Does not validate against any of the Union subtypes"
"""The beginning of jsonargparse's message for an error that wraps another one."""
LONGEST = 200
"""Length, in characters, to which a message of the parser is shortened."""
LAST_SIMILAR = 0.6
"""Similarity from which on the last parts of two names count: they are short, and soon similar."""


class ParserError(Exception):
    """An error of the argument parser, with its own message, which :func:`explain_mistake` turns into a clear one."""


def explain_mistake(
    message: str, args: Sequence[str], files: Mapping[str, Iterable[str]], known: Callable[[], Iterable[str]]
) -> str:
    """Turn a parser's message into one that names the option, the file that sets it, and the nearest valid option.

    Args:
        message: The parser's message.
        args: The command line.
        files: Names of the options that each recipe sets, by the recipe's path.
        known: Returns the names of all options, without leading dashes; called only when needed.
    """
    unknown = re.search(
        r"[Oo]ption '([\w.]+)' is not accepted|does not accept option '([\w.]+)'|unrecognized arguments: --([^\s=]+)",
        message,
    )
    if unknown:
        full, file = _place(next(filter(None, unknown.groups())), args, files)
        return unknown_option(full, file, known())
    stray = re.search(r"unrecognized arguments: (\S+)", message)
    if stray:
        return f"expected options only, got {stray.group(1)!r}; see --help"
    if "expected one argument" in message:
        lacking = [arg for arg, after in zip(args, [*args[1:], "--"], strict=True) if _is_option(arg, after)]
        return f"{lacking[-1] if lacking else message}: expected a value after it, got none"
    lost = re.search(r"[Ee]xpected a dot import path string: (\S+)", message)
    if lost:
        return (
            f"{_parser_key(message)}expected the name of a class, found none called {lost.group(1)!r}; give it as "
            "MODULE.CLASS"
        )
    missing = re.search(
        r"given class_path '([\w.]+)':\s+(No module named '[\w.]+'|module '[\w.]+' has no attribute '\w+')", message
    )
    if missing:
        path, reason = missing.groups()
        return (
            f"{_parser_key(message)}expected a class that can be imported, got {path!r}: {reason}; correct the path, "
            "or add the folder of its module to PYTHONPATH"
        )
    return _bad_value(message, args, files) or _shortened(message)


def unknown_option(name: str, file: str | None, known: Iterable[str]) -> str:
    """The message for an option that there is not.

    Args:
        name: The option as it was given, without leading dashes.
        file: The recipe that sets it; None if the command line sets it.
        known: The names of all options.
    """
    meant = nearest_option(name, known)
    dashes = "" if file else "--"
    hint = f"did you mean {dashes}{meant}?" if meant else "see --help-all for every option"
    return f"{f'{file}: ' if file else ''}there is no option {dashes}{name}; {hint}"


def nearest_option(wrong: str, known: Iterable[str]) -> str | None:
    """The option that was most likely meant; None where none is similar.

    A name is compared with whole names (``model.hiden``), and its last part with their last parts (``epochs`` and
    ``trainer.max_epochs``, ``lr`` and the initials of ``model.learning_rate``).

    Args:
        wrong: What was given, without leading dashes.
        known: The names there are; of several that are equally similar, the first is taken.
    """
    typed = wrong.replace("-", "_")
    last = typed.rpartition(".")[2]
    full = {name: name.replace("-", "_") for name in known}
    parts = {name: text.rpartition(".")[2] for name, text in full.items()}
    initials = {name: "".join(word[:1] for word in part.split("_")) for name, part in parts.items() if "_" in part}
    found = [(name, similarity(typed, text)) for name, text in full.items()]
    found += [(name, likeness) for name, part in parts.items() if (likeness := similarity(last, part)) >= LAST_SIMILAR]
    found += [(name, 0.9) for name, letters in initials.items() if letters == last]
    meant, best = max(found, key=lambda pair: pair[1], default=(None, 0.0))
    return meant if best >= SIMILAR else None


def check_decided(args: Sequence[str], files: Mapping[str, Iterable[str]]) -> None:
    """Reject options that a user can't set.

    Args:
        args: The command line.
        files: Names of the options that each recipe sets, by the recipe's path.

    Raises:
        UsageError: When the command line or a recipe sets one of them.
    """
    for name, reason in DECIDED.items():
        if name in map(option_name, args):
            raise UsageError(f"--{name} can't be set: {reason}; leave it out")
        for file, names in files.items():
            if name in names:
                raise UsageError(f"{file}: {name} can't be set: {reason}; leave it out")


def options_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The training's options, by the names of the arguments that they set.

    Args:
        config: The resolved configuration: the command's own options by name, and the namespaces ``trainer``, ``model``
            and ``data``. Where two of them have an option of one name, the command's own comes first, then the data's.
    """
    found: dict[str, str] = {}
    for group in OPTION_GROUPS:
        names = vars(getattr(config[group], "init_args", config[group]))
        found |= {name: f"--{group}.{name}" for name in names if f"{group}.{name}" not in DECIDED}
    return found | {name: f"--{name}" for name in config if name not in OPTION_GROUPS}


def unwrapped(error: Exception) -> Exception:
    """Return the error that a class raised, without the errors in which the parser wrapped it.

    Args:
        error: The error from the parser. An error that the parser did not wrap is returned unchanged.
    """
    while str(error).startswith(WRAPPED) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def sentence_of(error: Exception, spelling: Spelling) -> str:
    """The message of an error that was raised while data, model and trainer were constructed.

    Args:
        error: The error from the parser.
        spelling: Writes an argument of the library as an option.
    """
    own = unwrapped(error)
    return own.render(spelling) if isinstance(own, ArgumentError) else _shortened(str(own), 2 * LONGEST)


def _parser_key(message: str) -> str:
    """The option that a parser's message names, with a colon; empty if it names none."""
    key = re.search(r'Parser key "([\w.]+)"', message)
    return f"{key.group(1)}: " if key else ""


def option_name(arg: str) -> str:
    """The option of an argument, named as in a recipe; empty if the argument is no option."""
    return arg.partition("=")[0][2:].replace(".init_args.", ".") if arg.startswith("--") else ""


def _is_option(arg: str, after: str) -> bool:
    return arg.startswith("--") and "=" not in arg and after.startswith("--")


def _place(name: str, args: Sequence[str], files: Mapping[str, Iterable[str]]) -> tuple[str, str | None]:
    """An option's full name, and the recipe that sets it; None if the command line sets it."""
    name = name.replace("init_args.", "")
    for given in map(option_name, args):
        if given == name or given.endswith(f".{name}"):
            return given, None
    for file, names in files.items():
        for given in names:
            if given == name or given.endswith(f".{name}"):
                return given, file
    return name, None


def _bad_value(message: str, args: Sequence[str], files: Mapping[str, Iterable[str]]) -> str | None:
    keys = re.findall(r'Parser key "([\w.]+)"', message)
    value = re.search(r"(?:Got value|Given value): (.*)", message)
    expected = re.findall(r"Expected a (?:<class '(\w+)'>|typing\.Literal\[(.+?)\]$)", message, re.MULTILINE)
    words = [KINDS.get(kind, kind) if kind else choices.replace("'", "") for kind, choices in expected]
    words = list(dict.fromkeys(word for word in words if word != "NoneType"))
    if not keys or not value or not words:
        return None
    full, file = _place(keys[-1], args, files)
    return f"{file + ': ' if file else '--'}{full}: expected {' or '.join(words)}, got {value.group(1)!r}"


def _shortened(message: str, longest: int = LONGEST) -> str:
    flat = " ".join(message.split())
    return flat if len(flat) <= longest else flat[: longest - 3] + "..."
