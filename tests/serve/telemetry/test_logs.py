import json
import logging
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.supervisors import multiprocess

from glimpse_serve.http.request import Request
from glimpse_serve.telemetry import logs

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("", "glimpse", "glimpse_serve", "uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
# A line's end, one of Unicode's, one of Latin 1, a terminal's escape, delete, and a mark that turns the text round.
NASTY = "a\nb\r\u2028c\x85d\x1b[31m\x7f\u202eend"
log = logging.getLogger("glimpse_serve.somewhere")


@pytest.fixture
def configured(tmp_path):
    """Configures, and gives what was written since."""
    before = [(logging.getLogger(name), *state(logging.getLogger(name))) for name in NAMES]
    descriptors: list[int] = []

    def configure(level: str = "info", form: str = "json"):
        file = tmp_path / f"{len(descriptors)}.log"
        descriptors.append(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        logs.configure(level, form, descriptors[-1])

        def read() -> str:
            logging.getLogger().handlers[0].flush()  # A long line is written by a thread.
            text: str = file.read_bytes().decode()
            return text

        return read

    yield configure
    logging.captureWarnings(False)
    logs._write_access = None
    for logger, level, handlers, propagate, filters in before:
        logger.setLevel(level)
        logger.handlers[:], logger.propagate, logger.filters[:] = handlers, propagate, filters
    for descriptor in descriptors:
        os.close(descriptor)


def state(logger: logging.Logger) -> Any:
    return logger.level, list(logger.handlers), logger.propagate, list(logger.filters)


def make_request(**more: Any) -> Request:
    scope = {
        "type": "http",
        "method": "POST",
        "path": more.pop("path", "/v1/classify"),
        "query_string": b"token=hush",
        "headers": [(b"authorization", b"Bearer hush"), (b"x-api-key", b"hush"), *more.pop("headers", [])],
        "client": more.pop("client", ("127.0.0.1", 4711)),
        "scheme": "http",
    }

    async def receive():
        return {}

    found = Request(scope, receive, {}, more.pop("id", "req-1"), 0.0)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def only(text: str) -> dict[str, Any]:
    assert text.endswith("\n")
    [line] = text[:-1].split("\n")
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_record_is_an_object_on_a_line(configured):
    read = configured()
    log.warning("it is %s", "late", extra={"request_id": "req-1", "trace_id": TRACE, "path": Path("/x"), "level": "no"})
    entry = only(read())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {
        "level": "warning",
        "logger": "glimpse_serve.somewhere",
        "message": "it is late",
        "request_id": "req-1",
        "trace_id": TRACE,
        "path": "/x",
    }


def test_times_are_of_utc_and_cut_to_milliseconds(configured):
    record = logging.LogRecord("a", logging.INFO, "", 0, "b", (), None)
    record.created = 1700000000.9996
    assert json.loads(logs.JsonFormatter().format(record))["time"] == "2023-11-14T22:13:20.999Z"
    assert logs.TextFormatter().format(record).startswith("2023-11-14T22:13:20.999Z info ")


def test_an_exception_is_a_field_of_the_object(configured):
    read = configured()
    try:
        raise ValueError(f"bad {NASTY}")
    except ValueError:
        log.exception("a request failed")
    entry = only(read())
    assert entry["level"] == "error"
    assert entry["traceback"].startswith("Traceback (most recent call last):\n")
    assert entry["traceback"].endswith(f"ValueError: bad {NASTY}")


def test_of_a_long_traceback_the_end_is_kept(configured):
    read = configured()
    try:
        raise ValueError("x" * 100_000 + "end")
    except ValueError:
        log.exception("y" * 100_000)
    entry = only(read())
    assert (len(entry["traceback"]), len(entry["message"])) == (
        logs.MAX_MESSAGE_CHARACTERS,
        logs.MAX_MESSAGE_CHARACTERS,
    )
    assert entry["traceback"].endswith("end")


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("nasty", [NASTY, "\ud800", "\x00", "\x9b31m", "\u2029"])
def test_nothing_from_outside_begins_a_line_or_steers_a_terminal(configured, form, nasty):
    read = configured("info", form)
    log.warning("%s", nasty, extra={"given": nasty, "listed": [nasty]})
    logs.log_access(make_request(path=f"/{nasty}", model=nasty, caller=nasty, client=(nasty, 1)), 0.001)
    lines = read().split("\n")
    assert len(lines) == 3
    assert lines.pop() == ""
    assert all(line.isprintable() for line in lines)
    if form == "json":
        record, log_access = map(json.loads, lines)
        assert record["message"] == record["given"] == record["listed"][0] == nasty
        assert (log_access["path"], log_access["model"], log_access["client"]) == (f"/{nasty}", nasty, nasty)


@pytest.mark.parametrize("odd", [2**80, float("nan"), {1: 2, (3, 4): 5}, object(), {"a": b"\xff"}, {"\ud800"}])
def test_whatever_is_given_a_line_comes_of_it(configured, odd):
    read = configured()
    log.warning("odd", extra={"odd": odd})
    assert only(read())["message"] == "odd"


def test_arguments_that_do_not_fit_are_logged(configured):
    read = configured()
    log.warning("%d apples", "no")
    assert only(read())["message"] == "%d apples ('no',)"


def test_an_error_of_logging_does_not_reach_the_caller(configured, monkeypatch):
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    monkeypatch.setattr(logging, "raiseExceptions", False)
    read = configured()
    log.warning("broken", extra={"broken": Broken()})
    log.warning("after")
    assert only(read())["message"] == "after"


def test_a_line_for_people_keeps_the_lines_of_a_fault_apart(configured):
    read = configured("info", "text")
    try:
        raise ValueError("a\x1b\n2026-01-01T00:00:00.000Z info forged")
    except ValueError:
        log.exception("a request failed", extra={"request_id": "req-1"})
    first, *rest = read().splitlines()
    assert first.endswith("error   a request failed request_id=req-1")
    assert all(line.startswith("    ") for line in rest)
    assert "    ValueError: a\\x1b" in rest


SECRETS = [
    "< Authorization: Bearer hush-hush",
    "X-API-Key: hush",
    "x-api-key=hush",
    "[(b'host', b'x'), (b'x-api-key', b'hush'), (b'authorization', b'Bearer hush')]",
    "{'authorization': 'Basic hush', 'host': 'x'}",
    '{"X-Api-Key": "hush"}',
    "Proxy-Authorization: Digest username=hush, response=hush",
]


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_hidden_wherever_they_come_from(configured, form, secret):
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # as another server in the process may have
    read = configured("debug", form)
    logging.getLogger("uvicorn.error").debug("%s", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("failed", extra={"headers": secret})
    log.info("headers", extra={"authorization": "Bearer hush", "x-api-key": "hush", "headers": {"X-API-Key": "hush"}})
    text = read()
    assert "hush" not in text
    assert logs.HIDDEN in text
    if form == "json":
        assert [json.loads(line)["level"] for line in text.splitlines()] == ["debug", "error", "info"]


def test_the_word_alone_is_no_secret(configured):
    read = configured()
    log.warning("got no authorization", extra={"request_id": "req-1"})
    entry = only(read())
    assert entry["message"] == "got no authorization"
    assert entry["request_id"] == "req-1"


def test_an_access_line_describes_the_request_without_secrets(configured):
    read = configured()
    span = SimpleNamespace(trace_id=TRACE)
    request = make_request(
        status=200, bytes_in=300, bytes_out=512, caller="team", model="digits", glimpses=4, span=span
    )
    logs.log_access(request, 0.0123456)
    text = read()
    assert "hush" not in text
    entry = only(text)
    del entry["time"]
    assert entry == {
        "level": "info",
        "logger": "glimpse_serve.access",
        "message": "request",
        "method": "POST",
        "path": "/v1/classify",
        "status": 200,
        "milliseconds": 12.346,
        "bytes_in": 300,
        "bytes_out": 512,
        "client": "127.0.0.1",
        "key": "team",
        "model": "digits",
        "glimpses": 4,
        "request_id": "req-1",
        "trace_id": TRACE,
    }


def test_an_access_line_leaves_out_what_there_is_not(configured):
    read = configured()
    logs.log_access(make_request(client=None), 0.001)
    entry = only(read())
    assert entry["client"] is None
    assert not entry.keys() & {"key", "model", "glimpses", "trace_id"}


def test_a_long_path_is_cut(configured):
    read = configured()
    logs.log_access(make_request(path="/" + "é" * 100_000), 0.001)
    assert only(read())["path"] == "/" + "é" * (logs.MAX_PATH_CHARACTERS - 1)


def test_an_access_line_for_people(configured):
    read = configured("info", "text")
    logs.log_access(make_request(status=404, path="/é"), 0.001)
    assert read().endswith(" info    POST /é 404 in 1.0 ms bytes_in=0 bytes_out=0 client=127.0.0.1 request_id=req-1\n")


@pytest.mark.parametrize(("level", "lines"), [("debug", 4), ("info", 3), ("warning", 1), ("error", 0)])
def test_the_level_decides(configured, level, lines):
    read = configured(level)
    log.debug("debug")
    log.info("info")
    log.warning("warning")
    logs.log_access(make_request(), 0.001)
    assert len(read().splitlines()) == lines


def test_nothing_is_written_before_it_is_configured(configured, capfd):
    logs._write_access = None
    logs.log_access(make_request(), 0.001)
    assert capfd.readouterr() == ("", "")


def test_uvicorn_speaks_in_the_same_form(configured):
    read = configured()
    config = uvicorn.Config("nowhere:app", log_config=None, access_log=False)
    assert config.log_level is None
    error = logging.getLogger("uvicorn.error")
    error.warning("Unsupported upgrade request.", extra={"color_message": "\x1b[31m"})
    error.warning("Invalid HTTP request received.")  # whoever sent it is told, and it is counted
    error.exception("Invalid UTF-8 sequence received from client.")
    error.info('%s - "WebSocket %s" [accepted]', "127.0.0.1", "/v1/look?token=hush")
    logging.getLogger("websockets").info("of no weight")
    assert not logging.getLogger("uvicorn.access").hasHandlers()
    entry = only(read())
    assert (entry["logger"], entry["message"]) == ("uvicorn.error", "Unsupported upgrade request.")
    assert "color_message" not in entry


def test_messages_of_the_supervisor_about_workers_are_logged(configured):
    read = configured()
    record = logging.LogRecord("uvicorn.error", logging.INFO, multiprocess.__file__, 1, "died", (), None)
    logging.getLogger("uvicorn.error").handle(record)
    assert only(read())["message"] == "died"


def test_configuring_again_changes_everything_and_doubles_nothing(configured):
    first = configured("debug", "text")
    second = configured("info", "json")
    log.warning("once")
    logging.getLogger("uvicorn.error").info("of no weight")
    assert first() == ""
    assert only(second())["message"] == "once"
    third = configured("debug", "json")
    logging.getLogger("uvicorn.error").info("of weight now")
    assert only(third())["message"] == "of weight now"


def test_warnings_come_in_the_same_form(configured):
    read = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old\nstyle", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    entry = only(read())
    assert entry["logger"] == "py.warnings"
    assert "UserWarning: old\nstyle" in entry["message"]


@pytest.mark.parametrize("own", ["a", "A-b_c.9", "x" * 128])
def test_a_sane_id_is_kept(own):
    assert logs.request_id_of({"x-request-id": own}) == own


@pytest.mark.parametrize("own", ["", "x" * 129, "a b", "a\n", "a\nb", "é", "\u0661", '"', "{}", "a/b"])
def test_another_gets_a_new_one(own):
    new = logs.request_id_of({"x-request-id": own})
    assert re.fullmatch(r"[0-9a-f]{24}", new)


def test_new_ids_differ():
    assert len({logs.request_id_of({}) for _ in range(1000)}) == 1000


@pytest.mark.child
def test_standard_error_is_where_lines_go_and_a_stopped_reader_keeps_no_process_from_ending():
    script = """
import logging
from glimpse_serve.telemetry import logs
logs.configure("info", "json")
for number in range(2000):
    logging.getLogger("glimpse_serve").info("x" * 500, extra={"number": number})
print("done", flush=True)
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'serve'}"}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "done\n"
            assert process.wait(timeout=60) == 0  # While nobody has read a line.
            assert process.stderr is not None
            written, reported = process.stderr.read(), process.stdout.read()
        finally:
            process.kill()
    assert reported == ""
    numbers = [json.loads(line)["number"] for line in written.splitlines()[:-1]]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 50
