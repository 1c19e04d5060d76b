import signal
import subprocess
import sys
import time

import pytest

from glimpse.cli.interruption import INTERRUPTED, Interrupts, ToldInterrupt, end_on_interrupt

STUBBORN = """
import sys, time
from glimpse.cli.interruption import Interrupts, end_on_interrupt

def work():
    try:
        print("at work", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("tidying up", flush=True)
        time.sleep(600)

with Interrupts() as interrupts:
    sys.exit(end_on_interrupt(work, interrupts))
"""
TRAINING = """
import sys
import glimpse.__main__
from glimpse.cli import interruption

class Announced(interruption.Interrupts):
    def __enter__(self):
        entered = super().__enter__()
        print("here", flush=True)
        return entered

glimpse.__main__.Interrupts = Announced
sys.argv = ["glimpse", "train"]
sys.exit(glimpse.__main__.main())
"""


def raising(error: BaseException):
    def work() -> int:
        raise error

    return work


def test_work_that_is_not_interrupted_returns_its_status():
    assert end_on_interrupt(lambda: 3) == 3


def test_an_interrupt_leaves_a_sentence_and_the_usual_status(capsys):
    assert end_on_interrupt(raising(KeyboardInterrupt())) == INTERRUPTED == 130
    assert capsys.readouterr().err == "glimpse: interrupted\n"


def test_who_has_been_told_is_not_told_again(capsys):
    assert end_on_interrupt(raising(ToldInterrupt())) == INTERRUPTED
    assert capsys.readouterr().err == ""


def test_another_error_is_no_interrupt():
    with pytest.raises(ImportError, match="gone"):
        end_on_interrupt(raising(ImportError("gone")))


def test_an_interrupted_import_may_end_in_another_error(capsys):
    def work() -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as interrupt:
            raise ImportError("initialisation failed") from interrupt
        return 0

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Interrupts() as interrupts:
            assert end_on_interrupt(work, interrupts) == INTERRUPTED
        assert interrupts.count == 1
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "glimpse: interrupted\n"


def test_a_handler_of_somebody_else_stays():
    def own(number: int, frame: object) -> None:
        """Do nothing."""

    before = signal.signal(signal.SIGINT, own)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGINT) is own
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.child
def test_a_second_interrupt_ends_at_once():
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "at work\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "tidying up\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == INTERRUPTED
        assert child.stderr.read() == "glimpse: interrupted a second time, ended at once\n"


@pytest.mark.child
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.2, 1.0])
def test_an_interrupt_while_a_training_is_imported_leaves_a_sentence(seconds, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        time.sleep(seconds)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=120)
    assert (child.returncode, errors) == (INTERRUPTED, "glimpse: interrupted\n")
