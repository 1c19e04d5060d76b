import contextlib
import os
import threading

import pytest

from glimpse_serve.telemetry.log_writer import NonBlockingWriter

LINE = b"x" * 999 + b"\n"


def lost(count: int) -> bytes:
    return b"lost %d\n" % count


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def fill(writer: NonBlockingWriter, lines: int) -> None:
    """Write from another thread, so that a test which would wait for ever fails."""

    def write() -> None:
        for number in range(lines):
            writer.write(b"%d " % number + LINE)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def read_to(reader: int, end: bytes) -> bytes:
    found = b""
    while not found.endswith(end):
        found += os.read(reader, 65536)
    return found


def test_a_line_is_out_when_write_returns(pipe):
    reader, pipe_end = pipe
    writer = NonBlockingWriter(pipe_end, lost)
    writer.write(b"one\n")
    writer.write(b"two\n")
    assert os.read(reader, 100) == b"one\ntwo\n"


def test_a_stopped_reader_blocks_no_writer_and_lines_keep_their_order(pipe):
    reader, pipe_end = pipe
    writer = NonBlockingWriter(pipe_end, lost)
    fill(writer, 200)  # Three times what a pipe holds.
    found = read_to(reader, b"199 " + LINE)
    assert [int(line.split()[0]) for line in found.splitlines()] == list(range(200))
    writer.flush(10.0)
    writer.write(b"after\n")
    assert os.read(reader, 100) == b"after\n"


def test_what_is_too_much_is_dropped_and_counted(pipe):
    reader, pipe_end = pipe
    writer = NonBlockingWriter(pipe_end, lost, most=5)
    fill(writer, 200)
    found = b""
    while b"lost" not in found:
        found += os.read(reader, 65536)
    *lines, reported = found.splitlines()
    numbers = [int(line.split()[0]) for line in lines]
    assert numbers == list(range(len(numbers)))
    assert reported == b"lost %d" % (200 - len(numbers))


def test_a_long_line_comes_out_whole(pipe):
    reader, pipe_end = pipe
    writer = NonBlockingWriter(pipe_end, lost)
    writer.write(b"a" * 300_000 + b"\n")
    writer.write(b"b\n")
    assert read_to(reader, b"b\n") == b"a" * 300_000 + b"\nb\n"


def test_a_descriptor_that_does_not_block_loses_nothing(pipe):
    reader, pipe_end = pipe
    os.set_blocking(pipe_end, False)
    writer = NonBlockingWriter(pipe_end, lost)
    fill(writer, 200)
    assert read_to(reader, b"199 " + LINE).count(b"\n") == 200


def test_lines_of_several_threads_are_not_mixed(pipe):
    reader, pipe_end = pipe
    writer = NonBlockingWriter(pipe_end, lost)

    def write(mark: bytes) -> None:
        for _ in range(500):
            writer.write(mark * 99 + b"\n")

    threads = [threading.Thread(target=write, args=(mark,)) for mark in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    found = b""
    while found.count(b"\n") < 1500:
        found += os.read(reader, 65536)
    assert set(found.splitlines()) == {b"a" * 99, b"b" * 99, b"c" * 99}


def test_a_reader_that_is_gone_is_no_fault(pipe):
    reader, pipe_end = pipe
    writer = NonBlockingWriter(pipe_end, lost)
    os.close(reader)
    writer.write(LINE)
    writer.write(b"a" * 300_000)
    writer.flush(10.0)
    writer.write(LINE)


def test_a_descriptor_that_is_closed_is_no_fault(pipe):
    _, pipe_end = pipe
    writer = NonBlockingWriter(pipe_end, lost)
    os.close(pipe_end)
    writer.write(LINE)
    writer.flush(1.0)


def test_flushing_does_not_wait_for_ever(pipe):
    _, pipe_end = pipe
    writer = NonBlockingWriter(pipe_end, lost)
    fill(writer, 200)
    thread = threading.Thread(target=writer.flush, args=(0.05,), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
