"""Structured logs on standard error, one JSON object or one text line each, and the access log.

Input of clients can neither start a line nor control a terminal: unprintable characters are written as escapes. Values
of headers that hold secrets are never written.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from glimpse.contract.texts import visible
from glimpse_serve.telemetry.log_writer import NonBlockingWriter

if TYPE_CHECKING:
    from glimpse_serve.http.request import Request

MAX_PATH_CHARACTERS = 256
"""Characters of a request's path that are logged, at most."""
MAX_MESSAGE_CHARACTERS = 8000
"""Characters of a message, at most, and of a traceback, whose end is kept."""
HIDDEN = "[hidden]"
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_STANDARD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "color_message",
    "taskName",
}
"""Attributes of every log record; all others were passed as ``extra``."""
_SECRET = re.compile(
    r"""((?:authorization|api[-_]?key)[\\'"]*\s*[:=,]\s*[\\'"(]*(?:b[\\'"]+)?)[^\\'"\r\n]++(?!\\?["']\s*:)""",
    re.IGNORECASE,
)
"""A header's name, the separator in any notation, and its value, but not the next name of a JSON object."""
_FLUSH_SECONDS = 1.0
"""Time for writing the waiting lines at exit."""

_FIXED_FIELDS = frozenset(("time", "level", "logger", "message", "method", "path", "status", "milliseconds"))
"""Fields with a fixed place in a text line."""

_write_access: Callable[[dict[str, Any]], None] | None = None


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object on one line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as a JSON object."""
        entry: dict[str, Any] = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _formatted_message(record)[:MAX_MESSAGE_CHARACTERS],
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD_ATTRIBUTES:
                entry.setdefault(name, value)
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)[-MAX_MESSAGE_CHARACTERS:]
        return _without_secrets(_json_line(entry).decode("ascii"))


class TextFormatter(logging.Formatter):
    """Formats a record as a line of text; a traceback follows in indented lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as text."""
        extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD_ATTRIBUTES}
        line = _text_line(
            record.created, record.levelname.lower(), _formatted_message(record)[:MAX_MESSAGE_CHARACTERS], extra
        )
        if record.exc_info:
            traceback = self.formatException(record.exc_info)[-MAX_MESSAGE_CHARACTERS:]
            line = "\n    ".join((line, *map(visible, traceback.split("\n"))))
        return _without_secrets(line)


class _LineHandler(logging.Handler):
    """Writes records to a non-blocking writer.

    Args:
        writer: The writer.
        formatter: Formats the records.
    """

    def __init__(self, writer: NonBlockingWriter, formatter: logging.Formatter) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except Exception:  # noqa: BLE001 - an error of logging must not reach the caller
            self.handleError(record)

    def flush(self) -> None:
        self._writer.flush(_FLUSH_SECONDS)


def configure(level: str, form: str, descriptor: int = 2) -> None:
    """Configure the logging of the process, uvicorn's included.

    Other libraries log warnings only. uvicorn logs warnings and the messages of its supervisor about workers, unless
    the level is ``debug``. uvicorn's access log is replaced by :func:`log_access`.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``json`` or ``text``.
        descriptor: The file descriptor for the lines, standard error by default.
    """
    global _write_access
    formatter = JsonFormatter() if form == "json" else TextFormatter()

    def lost(count: int) -> bytes:
        text = f"{count} lines were lost here, since the lines before them were not read"
        record = logging.LogRecord(__name__, logging.WARNING, "", 0, text, (), None)
        return formatter.format(record).encode() + b"\n"

    writer = NonBlockingWriter(descriptor, lost)
    root = logging.getLogger()
    root.handlers[:] = [_LineHandler(writer, formatter)]
    wanted = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(wanted, logging.WARNING))
    for name in ("glimpse", "glimpse_serve", "uvicorn"):
        logging.getLogger(name).setLevel(wanted)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
        if name != "uvicorn":
            logger.setLevel(logging.NOTSET)  # the parent's level, even if another server in the process has set one
    # It warns of every damaged form, which any client can send; the client gets an error.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.removeFilter(_is_relevant)
    if wanted > logging.DEBUG:
        uvicorn.addFilter(_is_relevant)
    logging.captureWarnings(True)
    write_entry = _json_line if form == "json" else _access_text
    _write_access = (lambda entry: writer.write(write_entry(entry) + b"\n")) if wanted <= logging.INFO else None


def request_id_of(headers: Mapping[str, str]) -> str:
    """Return the id of a request: its X-Request-ID header if that is valid, else a new one.

    Args:
        headers: Headers of the request, by lower-case name.

    Returns:
        1 to 128 letters, digits, dots, hyphens and underscores.
    """
    own = headers.get("x-request-id")
    return own if own is not None and _VALID_ID.fullmatch(own) else os.urandom(12).hex()


def log_access(request: "Request", seconds: float) -> None:
    """Log a completed request, without its query string, where clients may put secrets.

    Args:
        request: The request.
        seconds: Its duration.
    """
    if _write_access is None:
        return
    scope = request.scope
    client = scope.get("client")
    entry = {
        "time": _timestamp(time.time()),
        "level": "info",
        "logger": "glimpse_serve.access",
        "message": "request",
        "method": scope.get("method", "WEBSOCKET"),
        "path": scope["path"][:MAX_PATH_CHARACTERS],
        "status": request.status,
        "milliseconds": round(seconds * 1e3, 3),
        "bytes_in": request.bytes_in,
        "bytes_out": request.bytes_out,
        "client": client[0] if client else None,
        "request_id": request.id,
    }
    if request.caller:
        entry["key"] = request.caller
    if request.model:
        entry["model"] = request.model
    if request.glimpses is not None:
        entry["glimpses"] = request.glimpses
    if request.span is not None and request.span.trace_id:
        entry["trace_id"] = request.span.trace_id
    _write_access(entry)


def _json_line(entry: dict[str, Any]) -> bytes:
    """Serialise an object in ASCII; all other characters become escapes, control characters included."""
    try:
        line = orjson.dumps(entry, default=str, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        line = b"\x7f"
    if line.isascii() and b"\x7f" not in line:
        return line
    return json.dumps(entry, default=str, skipkeys=True).encode()


def _access_text(entry: dict[str, Any]) -> bytes:
    rest = {name: value for name, value in entry.items() if name not in _FIXED_FIELDS}
    words = f"{entry['method']} {entry['path']} {entry['status']} in {entry['milliseconds']} ms"
    return _text_line(time.time(), entry["level"], words, rest).encode("utf-8", "backslashreplace")


def _text_line(created: float, level: str, message: str, extra: Mapping[str, Any]) -> str:
    return visible(" ".join((_timestamp(created), f"{level:7}", message, *(f"{n}={v}" for n, v in extra.items()))))


def _formatted_message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} {record.args}"


def _without_secrets(line: str) -> str:
    return _SECRET.sub(rf"\g<1>{HIDDEN}", line)


_IGNORED_MESSAGES = frozenset(
    (
        # uvicorn's, for a WebSocket handshake that was rejected with an HTTP response, which is intended
        "ASGI callable returned without completing handshake.",
        # uvicorn's, for bytes that are no HTTP: any client can send them, and the metrics count them
        "Invalid HTTP request received.",
        # uvicorn's, for a message of a WebSocket that is no UTF-8: the same
        "Invalid UTF-8 sequence received from client.",
        # uvicorn's, after a model that can't be served, which the registry has logged
        "Application startup failed. Exiting.",
    )
)
_STOPPING = "failed to start, stopping the parent process."
"""The end of uvicorn's message about a worker that could not start; our supervisor may go on with the others."""


def _is_relevant(record: logging.LogRecord) -> bool:
    if record.msg in _IGNORED_MESSAGES or str(record.msg).endswith(_STOPPING):
        return False
    return record.levelno >= logging.WARNING or record.module == "multiprocess"


def _timestamp(seconds: float) -> str:
    whole = int(seconds)
    return f"{_timestamp_seconds(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=4)
def _timestamp_seconds(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
