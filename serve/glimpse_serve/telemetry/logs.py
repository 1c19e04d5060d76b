"""Structured logs: one JSON object a line on standard error, or text for people; and a line for each request.

Nothing that comes from outside can begin a line or steer a terminal: what can't be printed is written as an escape.
What follows the name of a header that holds a secret is never written.
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

from glimpse_serve.telemetry.log_writer import NonBlockingWriter

if TYPE_CHECKING:
    from glimpse_serve.http.request import Request

LONGEST_PATH = 256
"""Characters of a request's path that are logged."""
LONGEST = 8000
"""Characters of a message, and of a traceback, of which the end is kept."""
HIDDEN = "[hidden]"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message", "taskName"}
"""Attributes that every record has; whatever else one has was given with it."""
_SECRET = re.compile(
    r"""((?:authorization|api[-_]?key)[\\'"]*\s*[:=,]\s*[\\'"(]*(?:b[\\'"]+)?)[^\\'"\r\n]++(?!\\?["']\s*:)""",
    re.IGNORECASE,
)
"""A header's name, what stands between, in any notation, and its value; a JSON object's next name is no value."""
_GIVEN_TIME = 1.0
"""Seconds in which what still waits at the end may be written."""

_IN_WORDS = frozenset(("time", "level", "logger", "message", "method", "path", "status", "milliseconds"))
"""What a line for people has in fixed places."""

_write_access: Callable[[dict[str, Any]], None] | None = None


class JsonFormatter(logging.Formatter):
    """Writes a record as a JSON object on one line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """See :meth:`logging.Formatter.format`."""
        entry: dict[str, Any] = {
            "time": _written(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record)[:LONGEST],
        }
        for name, value in record.__dict__.items():
            if name not in _OWN:
                entry.setdefault(name, value)
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)[-LONGEST:]
        return _without_secrets(_json(entry).decode("ascii"))


class TextFormatter(logging.Formatter):
    """Writes a record for people; only a traceback has lines of its own, each of them set in."""

    def format(self, record: logging.LogRecord) -> str:
        """See :meth:`logging.Formatter.format`."""
        given = {name: value for name, value in record.__dict__.items() if name not in _OWN}
        line = _for_people(record.created, record.levelname.lower(), _message(record)[:LONGEST], given)
        if record.exc_info:
            traceback = self.formatException(record.exc_info)[-LONGEST:]
            line = "\n    ".join((line, *map(_printable, traceback.split("\n"))))
        return _without_secrets(line)


class _Lines(logging.Handler):
    """Sends records to an outlet.

    Args:
        outlet: The outlet.
        formatter: Which makes lines of them.
    """

    def __init__(self, outlet: NonBlockingWriter, formatter: logging.Formatter) -> None:
        super().__init__()
        self._outlet = outlet
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._outlet.write(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except Exception:  # noqa: BLE001 - a line that can't be written must not bring down who wrote it
            self.handleError(record)

    def flush(self) -> None:
        self._outlet.flush(_GIVEN_TIME)


def configure(level: str, form: str, descriptor: int = 2) -> None:
    """Set up what is logged, and how, for the whole process; uvicorn's own lines come in the same form.

    Of others' loggers no more than warnings is told, and of uvicorn the same with what its supervisor says of workers,
    unless the level is ``debug``. uvicorn's line for each request is left out, since there is :func:`access`.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``json`` or ``text``.
        descriptor: Where the lines go, standard error by default.
    """
    global _write_access
    formatter = JsonFormatter() if form == "json" else TextFormatter()

    def lost(count: int) -> bytes:
        told = f"{count} lines were lost here, since nobody read those before them"
        record = logging.LogRecord(__name__, logging.WARNING, "", 0, told, (), None)
        return formatter.format(record).encode() + b"\n"

    outlet = NonBlockingWriter(descriptor, lost)
    root = logging.getLogger()
    root.handlers[:] = [_Lines(outlet, formatter)]
    wanted = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(wanted, logging.WARNING))
    for name in ("glimpse", "glimpse_serve", "uvicorn"):
        logging.getLogger(name).setLevel(wanted)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
        if name != "uvicorn":
            logger.setLevel(logging.NOTSET)  # that of its parent, whatever another server in the process has set
    # It warns of every damaged form, which anybody can send; its sender is told.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.removeFilter(_of_weight)
    if wanted > logging.DEBUG:
        uvicorn.addFilter(_of_weight)
    logging.captureWarnings(True)
    writes = _json if form == "json" else _access_for_people
    _write_access = (lambda entry: outlet.write(writes(entry) + b"\n")) if wanted <= logging.INFO else None


def request_id_of(headers: Mapping[str, str]) -> str:
    """Tell by what a request is to be known: what it calls itself, if that is sane, else something new.

    Args:
        headers: Of the request, names in small letters.

    Returns:
        1 to 128 letters, digits, dots, hyphens and underscores.
    """
    own = headers.get("x-request-id")
    return own if own is not None and _SANE_ID.fullmatch(own) else os.urandom(12).hex()


def access(asked: "Request", seconds: float) -> None:
    """Log one request that is over, without what follows its path's question mark, where clients may put secrets.

    Args:
        asked: The request.
        seconds: How long it took.
    """
    if _write_access is None:
        return
    scope = asked.scope
    client = scope.get("client")
    entry = {
        "time": _written(time.time()),
        "level": "info",
        "logger": "glimpse_serve.access",
        "message": "request",
        "method": scope.get("method", "WEBSOCKET"),
        "path": scope["path"][:LONGEST_PATH],
        "status": asked.status,
        "milliseconds": round(seconds * 1e3, 3),
        "bytes_in": asked.bytes_in,
        "bytes_out": asked.bytes_out,
        "client": client[0] if client else None,
        "request_id": asked.id,
    }
    if asked.caller:
        entry["key"] = asked.caller
    if asked.model:
        entry["model"] = asked.model
    if asked.glimpses is not None:
        entry["glimpses"] = asked.glimpses
    if asked.span is not None and asked.span.trace_id:
        entry["trace_id"] = asked.span.trace_id
    _write_access(entry)


def _json(entry: dict[str, Any]) -> bytes:
    """Write an object in ASCII: what else there is becomes an escape, control characters of all kinds among it."""
    try:
        line = orjson.dumps(entry, default=str, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        line = b"\x7f"
    if line.isascii() and b"\x7f" not in line:
        return line
    return json.dumps(entry, default=str, skipkeys=True).encode()


def _access_for_people(entry: dict[str, Any]) -> bytes:
    rest = {name: value for name, value in entry.items() if name not in _IN_WORDS}
    words = f"{entry['method']} {entry['path']} {entry['status']} in {entry['milliseconds']} ms"
    return _for_people(time.time(), entry["level"], words, rest).encode("utf-8", "backslashreplace")


def _for_people(created: float, level: str, message: str, given: Mapping[str, Any]) -> str:
    return _printable(" ".join((_written(created), f"{level:7}", message, *(f"{n}={v}" for n, v in given.items()))))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} {record.args}"


def _without_secrets(line: str) -> str:
    return _SECRET.sub(rf"\g<1>{HIDDEN}", line)


_SAID_OTHERWISE = frozenset(
    (
        # uvicorn's, of a conversation that was refused with an answer of its own, which is as it should be
        "ASGI callable returned without completing handshake.",
        # uvicorn's, of bytes that are no HTTP, which anybody can send and the metrics count
        "Invalid HTTP request received.",
    )
)


def _of_weight(record: logging.LogRecord) -> bool:
    if record.msg in _SAID_OTHERWISE:
        return False
    return record.levelno >= logging.WARNING or record.module == "multiprocess"


def _written(seconds: float) -> str:
    whole = int(seconds)
    return f"{_to_the_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=4)
def _to_the_second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
