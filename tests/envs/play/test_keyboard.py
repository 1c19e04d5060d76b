import os
import pty
import signal
import termios
import time

import pytest

from glimpse_envs.play.keyboard import ENTER_SCREEN, LEAVE_SCREEN, Keyboard, KeyDecoder, keyboard


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"7q?H", ["7", "q", "?", "H"]),
        (b"\x1b[A\x1b[B\x1b[C\x1b[D", ["up", "down", "right", "left"]),
        (b"\x1bOA\x1bOD", ["up", "left"]),
        (b"\x1b[1;2A\x1b[1;5C", ["far-up", "far-right"]),
        (b"\r\n ", ["enter", "enter", "space"]),
        (b"\x1b[5~\x1b[Z\x07\x7f3", ["3"]),
        (b"\x1b7", ["7"]),
        ("é".encode(), ["é"]),
        (b"\xff\xfe8", ["8"]),
    ],
)
def test_bytes_become_keys(sent, keys):
    assert KeyDecoder().feed(sent) == keys


def test_a_sequence_may_come_in_pieces():
    decoder = KeyDecoder()
    for piece in (b"\x1b", b"[", b"1;2"):
        assert decoder.feed(piece) == []
        assert decoder.waiting
    assert decoder.feed(b"B3") == ["far-down", "3"]
    assert not decoder.waiting


def test_a_lone_escape_swallows_no_later_key():
    master, slave = pty.openpty()
    try:
        keys = Keyboard(slave)
        assert keys.wait(0.01) == []
        os.write(master, b"\x1b\n")
        assert keys.wait(1.0) == ["enter"]
    finally:
        os.close(master)
        os.close(slave)


def test_a_lone_escape_is_given_up():
    reading, writing = os.pipe()
    keys = Keyboard(reading)
    os.write(writing, b"\x1b")
    assert keys.wait(1.0) == []
    os.write(writing, b"[A")
    assert keys.wait(1.0) == ["[", "A"]
    os.close(writing)
    assert keys.wait(1.0) is None
    os.close(reading)


@pytest.fixture
def terminal():
    master, slave = pty.openpty()
    yield slave
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_the_terminal_is_as_it_was_whatever_happens(error, terminal, capsys):
    before, handler = termios.tcgetattr(terminal), signal.getsignal(signal.SIGTERM)

    def live() -> None:
        with keyboard(terminal):
            within = termios.tcgetattr(terminal)
            assert not within[3] & (termios.ECHO | termios.ICANON)
            assert within[3] & termios.ISIG
            assert within[6][termios.VSUSP] in (b"\x00", b"\xff")
            if error:
                raise error

    if error:
        with pytest.raises(error):
            live()
    else:
        live()
    assert termios.tcgetattr(terminal) == before
    assert signal.getsignal(signal.SIGTERM) == handler
    assert capsys.readouterr().out == ENTER_SCREEN + LEAVE_SCREEN


def test_told_to_end_it_puts_the_terminal_in_order_first(terminal):
    before = termios.tcgetattr(terminal)
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)), keyboard(terminal):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert termios.tcgetattr(terminal) == before
