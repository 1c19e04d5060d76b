"""The settings of the service, with their options, environment variables and defaults.

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
"""The environment variable that names the folder which the worker processes share."""
STREAMING_PATH = "/v1/look"
"""The path of the streaming sessions, which are WebSockets."""
DRAIN = signal.SIGUSR1
"""The signal that makes a process report itself as not ready, before it is stopped."""


@dataclass(frozen=True)
class Settings:
    """The settings of the service.

    Attributes:
        models: ONNX files to serve, each ``FILE`` or ``NAME=FILE``; the bundled models if neither files nor a directory
            are given.
        directory: Directory of models that is watched, ``NAME.onnx`` or ``NAME/VERSION/model.onnx``; empty for none.
        watch_seconds: Seconds between two scans of the directory.
        load_seconds: Processor time in which a model's file must load and answer, in a process of its own; 0 to load
            it without that trial.
        load_megabytes: Memory of that process, MiB.
        provider: Execution provider of the models: ``cpu``, ``cuda``, ``tensorrt``, ``dml``, ``coreml``, ``openvino``,
            ``rocm`` or ``migraphx``.
        threads: Threads within an operator.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        path_prefix: Path under which a proxy serves the service, such as ``/glimpse``; empty for none.
        allowed_hosts: Names under which the service may be called, beside localhost, ``host`` and all IP addresses;
            ``.example.org`` for all names below it, ``*`` for any name. If empty, not checked while the service
            listens on all addresses.
        workers: Processes that share the port; on Ray, replicas of the models.
        max_workers: On Ray, largest number of replicas under load; 0 for no autoscaling.
        ray: Whether to run on Ray Serve.
        max_batch: Largest number of images in a batch.
        max_queue: Requests that may wait for a model; further requests get 503 at once.
        deadline_seconds: Longest time from a request's last byte to its response.
        max_bytes: Largest body, bytes.
        max_pixels: Largest image, pixels.
        max_images: Largest number of images in a request.
        header_seconds: Longest time for receiving a request's headers, for a TLS handshake, and for the first message
            of a streaming session.
        body_seconds: Longest time for receiving a request's body.
        decode_seconds: Longest time for decoding an image, from its start.
        max_connections: Connections at once; a further one gets 503 and is closed, or replaces one that has sent no
            request. Fewer where the system allows fewer open files.
        max_looks: Streaming sessions at once; a further one gets 503, or replaces one that waits for its client.
        look_seconds: Longest time of a streaming session, and of a wait for pixels.
        drain_seconds: How long the service still takes requests after the signal to stop, while it reports not ready.
        shutdown_seconds: How long it then waits for running requests.
        keys_file: File of API keys; empty for none.
        keys: Entries of such a file, separated by commas; for the environment.
        allow_anonymous: Whether to listen on other addresses than the loopback without API keys.
        rate: Requests a second for each key, or for each address if there are no keys; 0 for no limit.
        burst: Requests that may come at once within the rate.
        open_metrics: Whether ``/metrics`` needs no key.
        cors: Origins whose pages may call the service; none if empty.
        tls_certificate: PEM file of the certificate chain; empty for plain HTTP.
        tls_key: PEM file of its private key.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        log_format: ``json`` or ``text``.
        tracing: Whether to export spans by OpenTelemetry, configured by its ``OTEL_*`` variables.
    """

    models: tuple[str, ...] = ()
    directory: str = ""
    watch_seconds: float = 1.0
    load_seconds: float = 10.0
    load_megabytes: int = 2048
    provider: str = "cpu"
    threads: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    path_prefix: str = ""
    allowed_hosts: tuple[str, ...] = ()
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

_PREFIX_OF_PATHS = re.compile(r"(/[A-Za-z0-9._~-]+)+")
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
        help="an ONNX file written by 'glimpse export', FILE or NAME=FILE; the bundled models if left out",
    )
    help_texts = descriptions()
    for field in fields(Settings):
        if field.name == "models":
            continue
        flag = f"--{field.name.replace('_', '-')}"
        if field.type == "bool" or field.type is bool:
            parser.add_argument(flag, action="store_true", default=None, help=help_texts[field.name])
        else:
            many = isinstance(field.default, tuple)
            default = "" if field.default in ("", ()) else f"; {field.default} if left out"
            parser.add_argument(
                flag,
                metavar=_metavar(field),
                action="append" if many else "store",
                help=f"{help_texts[field.name]}{default}" + ("; may be given several times" if many else ""),
            )
    parser.add_argument(
        "--make-key", metavar="NAME", help="print a new API key and its line for the file of keys, and exit"
    )
    parser.epilog = (
        f"Each option can be set in the environment as well: --max-queue as {PREFIX}MAX_QUEUE, several values "
        "separated by commas; an option wins."
    )


def settings_from(args: argparse.Namespace, environment: Mapping[str, str]) -> Settings:
    """Combine the command line and the environment into settings; the command line wins.

    Args:
        args: The parsed arguments of :func:`add_arguments`.
        environment: Environment variables of the process.

    Raises:
        UsageError: When a value is invalid or out of range, or a variable with the prefix is unknown.
    """
    known = {field.name: field for field in fields(Settings)}
    reserved = {"SETTINGS", "SHARED"}
    for variable in environment:
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and name not in reserved and name.lower() not in known:
            from glimpse.errors import suggestion

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


def descriptions() -> dict[str, str]:
    """Descriptions of the settings by name, from the docstring of :class:`Settings`."""
    sections = _SECTION.findall(Settings.__doc__ or "")
    return {name: _sentence(description) for name, description in sections}


def _sentence(description: str) -> str:
    """A description of the docstring as text of the help: without markup and full stop, begun in lower case."""
    plain = re.sub(r"\s+", " ", description).replace("``", "").rstrip(".")
    return plain if plain[:2].isupper() else plain[0].lower() + plain[1:]


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
        "load_seconds": (0, 3600),
        "load_megabytes": (256, 2**20),
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
    if settings.path_prefix and not _PREFIX_OF_PATHS.fullmatch(settings.path_prefix):
        raise UsageError(
            f"--path-prefix: expected a path such as /glimpse, without a slash at its end, got {settings.path_prefix!r}"
        )
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise UsageError("--tls-certificate and --tls-key: expected both or neither, got one of them")
    return settings
