"""Structured logs: one JSON object a line on standard error, or text for people; and a line for each request."""

import itertools
import logging
import os
import re
import secrets
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from glimpse_serve.asked import Asked

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message", "taskName"}
"""Attributes that every record has; whatever else one has was given with it."""
_PREFIX = secrets.token_hex(6)
_numbers = itertools.count(1)
_requests = logging.getLogger("glimpse_serve.requests")
LONGEST_PATH = 300


class JsonLines(logging.Formatter):
    """Writes a record as a JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """See :meth:`logging.Formatter.format`."""
        entry: dict[str, Any] = {
            "time": _written(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: value for name, value in record.__dict__.items() if name not in _OWN}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class Text(logging.Formatter):
    """Writes a record for people; what came from outside can't begin a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """See :meth:`logging.Formatter.format`."""
        given = " ".join(f"{name}={value}" for name, value in record.__dict__.items() if name not in _OWN)
        line = f"{_written(record.created)} {record.levelname.lower():7} {record.getMessage()} {given}".rstrip()
        line = "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in line)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(level: str, form: str) -> None:
    """Set up what is logged, and how, for the whole process; uvicorn's own lines come in the same form.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``json`` or ``text``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, root.level))
    # Nobody reads where in the source, in which thread and task a line was made: it costs a third of the time.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = logging.logAsyncioTasks = False


def request_id_of(headers: Mapping[str, str]) -> str:
    """Tell by what a request is to be known: what it calls itself, if that is sane, else something new.

    Args:
        headers: Of the request, names in small letters.
    """
    own = headers.get("x-request-id")
    if own is not None and _SANE_ID.fullmatch(own):
        return own
    return f"{_PREFIX}-{os.getpid():x}-{next(_numbers):x}"


def access(asked: Asked, seconds: float) -> None:
    """Log one request that is over.

    Args:
        asked: The request.
        seconds: How long it took.
    """
    if not _requests.isEnabledFor(logging.INFO):
        return
    scope = asked.scope
    client = scope.get("client")
    entry = {
        "request_id": asked.id,
        "method": scope.get("method", "WEBSOCKET"),
        "path": scope["path"][:LONGEST_PATH],
        "status": asked.status,
        "milliseconds": round(seconds * 1e3, 3),
        "bytes_in": asked.bytes_in,
        "bytes_out": asked.bytes_out,
        "client": client[0] if client else None,
    }
    if asked.caller:
        entry["key"] = asked.caller
    if asked.model:
        entry["model"] = asked.model
    if asked.glimpses is not None:
        entry["glimpses"] = asked.glimpses
    if asked.span is not None and asked.span.trace_id:
        entry["trace_id"] = asked.span.trace_id
    _requests.info("request", extra=entry)


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
