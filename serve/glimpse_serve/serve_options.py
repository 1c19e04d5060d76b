"""The options of ``glimpse serve``, made of the settings: each is a flag and an environment variable."""

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any

from glimpse.cli.usage import UsageError
from glimpse_serve.settings import Settings

PREFIX = "GLIMPSE_SERVE_"
_SECTION = re.compile(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", re.MULTILINE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the subcommand's parser.

    Args:
        parser: The parser.
    """
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="an ONNX file written by 'glimpse export', FILE or NAME=FILE; those that come with Glimpse if left out",
    )
    told = explanations()
    for field in fields(Settings):
        if field.name == "models":
            continue
        flag = f"--{field.name.replace('_', '-')}"
        if field.type == "bool" or field.type is bool:
            parser.add_argument(flag, action="store_true", default=None, help=told[field.name])
        else:
            many = isinstance(field.default, tuple)
            default = "" if field.default in ("", ()) else f" {field.default} if left out"
            parser.add_argument(
                flag,
                metavar=_metavar(field),
                action="append" if many else "store",
                help=f"{told[field.name]}{default}" + ("; may be given several times" if many else ""),
            )
    parser.add_argument(
        "--make-key", metavar="NAME", help="print a new API key and the line for the file of keys, and do nothing else"
    )
    parser.epilog = (
        f"Each option can be set in the environment as well: --max-queue as {PREFIX}MAX_QUEUE, several values apart by "
        "commas; an option wins."
    )


def settings_of(args: argparse.Namespace, environment: Mapping[str, str]) -> Settings:
    """Put together what was given on the command line and in the environment.

    Args:
        args: What :func:`add_arguments` 's parser made of the command line.
        environment: Of the process.

    Raises:
        UsageError: When a value is none, or a variable is unknown.
    """
    known = {field.name: field for field in fields(Settings)}
    reserved = {"SETTINGS", "SHARED"}
    for variable in environment:
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and name not in reserved and name.lower() not in known:
            from glimpse.cli.usage import did_you_mean

            near = did_you_mean(variable, [PREFIX + field.upper() for field in known])
            raise UsageError(
                f"the environment variable {variable} is none of the service's{near}; see glimpse serve --help"
            )
    values: dict[str, Any] = {}
    for name, field in known.items():
        given, what = getattr(args, name, None), f"--{name.replace('_', '-')}"
        if given is None or given == []:
            given, what = environment.get(PREFIX + name.upper()), PREFIX + name.upper()
            if given is None:
                continue
        values[name] = _value(field, given, what)
    return _checked(Settings(**values))


def explanations() -> dict[str, str]:
    """What each setting is for, as the settings' own docstring says it."""
    text = Settings.__doc__ or ""
    found = {name: re.sub(r"\s+", " ", said) for name, said in _SECTION.findall(text)}
    return {
        name: re.sub(r":\w+:`~?([\w.]+)`|``", r"\1", said)[0].lower()
        + re.sub(r":\w+:`~?([\w.]+)`|``", r"\1", said)[1:].rstrip(".")
        + ";"
        for name, said in found.items()
    }


def _metavar(field: "Field[Any]") -> str:
    return {int: "N", float: "X"}.get(type(field.default), "TEXT")


def _value(field: "Field[Any]", given: Any, what: str) -> Any:
    default: Any = field.default
    if isinstance(default, tuple):
        return tuple(given if isinstance(given, list) else [part.strip() for part in given.split(",") if part.strip()])
    if isinstance(default, bool):
        if isinstance(given, bool):
            return given
        if given.lower() not in ("1", "true", "yes", "0", "false", "no", ""):
            raise UsageError(f"{what}: expected true or false, got {given!r}")
        return given.lower() in ("1", "true", "yes")
    if isinstance(default, str):
        return given
    kind: Callable[[str], Any] = type(default)
    try:
        return kind(given)
    except ValueError:
        word = "a whole number" if isinstance(default, int) else "a number"
        raise UsageError(f"{what}: expected {word}, got {given!r}") from None


def _checked(settings: Settings) -> Settings:
    ranges: dict[str, tuple[float, float]] = {
        "port": (0, 65535),
        "workers": (1, 256),
        "max_workers": (0, 256),
        "threads": (1, 1024),
        "max_batch": (1, 4096),
        "max_queue": (1, 10**6),
        "max_images": (1, 4096),
        "max_bytes": (1024, 2**31),
        "max_pixels": (1, 2**30),
        "max_connections": (1, 10**6),
        "max_looks": (0, 10**5),
        "rate": (0, 10**9),
        "burst": (1, 10**9),
        "drain_seconds": (0, 3600),
        "watch_seconds": (0.01, 3600),
    }
    for field in fields(settings):
        value = getattr(settings, field.name)
        least, most = ranges.get(field.name, (0.001, 86400) if field.name.endswith("_seconds") else (0, 0))
        if most and not least <= value <= most:
            raise UsageError(f"--{field.name.replace('_', '-')}: expected {least:g} to {most:g}, got {value:g}")
    for name, choices in {"log_level": ("debug", "info", "warning", "error"), "log_format": ("json", "text")}.items():
        if getattr(settings, name) not in choices:
            raise UsageError(
                f"--{name.replace('_', '-')}: expected one of {', '.join(choices)}, got {getattr(settings, name)!r}"
            )
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise UsageError("--tls-certificate and --tls-key: expected both or neither, got one of them")
    return settings
