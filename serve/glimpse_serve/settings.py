"""What the service can be told, by flags or by the environment, and what holds when nothing is said.

Every field is an option of ``glimpse serve`` (``max_queue`` is ``--max-queue``) and an environment variable
(``GLIMPSE_SERVE_MAX_QUEUE``); a flag wins over the environment. Standard library only.
"""

import argparse
import json
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import Field, asdict, dataclass, fields
from typing import Any

from glimpse.cli.usage import UsageError

SHARED = "GLIMPSE_SERVE_SHARED"
"""The environment variable that names the folder which worker processes share."""
DRAIN = signal.SIGUSR1
"""Tells a process that the service is about to stop."""


@dataclass(frozen=True)
class Settings:
    """How the service runs.

    Attributes:
        models: ONNX files to serve, each ``FILE`` or ``NAME=FILE``; those that are shipped with the package where
            neither these nor a directory is given.
        directory: A directory of models that is watched, ``NAME.onnx`` or ``NAME/VERSION/model.onnx``; empty for none.
        watch_seconds: How often it is looked at.
        provider: What the models run on, one of :data:`glimpse.runtime.providers.PROVIDERS`.
        threads: Threads within an operator.
        host: Address to listen at.
        port: Port to listen at; 0 for a free one.
        workers: Processes that share the port; on Ray, replicas of the models.
        max_workers: On Ray, replicas up to which it adds some when there is more to do; 0 for none.
        ray: Whether to run on Ray Serve.
        max_batch: Images that are looked at together, at most.
        max_queue: Requests that may wait for a model; more are answered 503 at once.
        deadline_seconds: How long a request may take from its last byte to its answer.
        max_bytes: Largest body that is read, bytes.
        max_pixels: Largest image that is decoded, pixels.
        max_images: Images in one request, at most.
        header_seconds: How long a client may take to send a request's headers.
        body_seconds: How long it may take to send a request's body.
        decode_seconds: How long the decoding of an image may take.
        max_connections: Connections at once; one more is answered 503 and closed.
        max_looks: Streaming sessions at once.
        look_seconds: How long a streaming session may take, and wait for pixels.
        drain_seconds: How long the service goes on after it was told to stop, saying that it is not ready.
        shutdown_seconds: How long it then waits for requests that it has begun.
        keys_file: File of API keys; empty for none.
        keys: Entries of such a file, ended by commas; for the environment.
        allow_anonymous: Whether to listen at other addresses than the loopback without API keys.
        rate: Requests a second for each key, or each address where there are no keys; 0 for no limit.
        burst: Requests that may come at once within the rate.
        open_metrics: Whether ``/metrics`` answers without a key.
        cors: Origins whose pages may call the service; none if empty.
        tls_certificate: PEM file of the certificate chain; empty for plain HTTP.
        tls_key: PEM file of its private key.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        log_format: ``json``, or ``text`` for people.
        tracing: Whether spans are sent by OpenTelemetry, as its ``OTEL_*`` variables say.
    """

    models: tuple[str, ...] = ()
    directory: str = ""
    watch_seconds: float = 1.0
    provider: str = "cpu"
    threads: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    max_workers: int = 0
    ray: bool = False
    max_batch: int = 32
    max_queue: int = 256
    deadline_seconds: float = 10.0
    max_bytes: int = 16 * 2**20
    max_pixels: int = 2**24
    max_images: int = 64
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    decode_seconds: float = 5.0
    max_connections: int = 2048
    max_looks: int = 32
    look_seconds: float = 60.0
    drain_seconds: float = 0.0
    shutdown_seconds: float = 20.0
    keys_file: str = ""
    keys: str = ""
    allow_anonymous: bool = False
    rate: float = 0.0
    burst: int = 20
    open_metrics: bool = False
    cors: tuple[str, ...] = ()
    tls_certificate: str = ""
    tls_key: str = ""
    log_level: str = "info"
    log_format: str = "json"
    tracing: bool = False

    def to_json(self) -> str:
        """Write the settings as JSON, for the workers."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """Read what :meth:`to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        listed = {field.name for field in fields(cls) if isinstance(field.default, tuple)}
        listed_as = {name: tuple(values[name]) for name in listed & values.keys()}
        return cls(**(values | listed_as))


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
            from glimpse.cli.usage import suggestion

            near = suggestion(variable, [PREFIX + field.upper() for field in known])
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
