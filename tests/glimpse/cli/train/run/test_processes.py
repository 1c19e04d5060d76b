import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from glimpse.cli.train.run.processes import FIRST, FurtherProcesses, ProcessPlace, use_loopback
from glimpse.cli.usage import RunError

PARENT = """
import sys, time
from functools import partial
from pathlib import Path
from glimpse.cli.train.run.processes import FurtherProcesses
from tests.glimpse.cli.train.run.test_processes import wait_for_ever

if __name__ == "__main__":
    with FurtherProcesses(2, 1, partial(wait_for_ever, Path(sys.argv[1])), "glimpse train"):
        time.sleep(600)
"""


def wait_for_ever(folder: Path, place: ProcessPlace) -> None:
    """Write the process's number, and wait."""
    print("nothing of this is seen")
    (folder / f"{place.index}.draft").write_text(str(os.getpid()))
    (folder / f"{place.index}.draft").rename(folder / f"{place.index}.pid")
    time.sleep(600)


def fail(place: ProcessPlace) -> None:
    raise ValueError(f"no share for process {place.index} at port {place.port}")


def numbers(folder: Path) -> list[int]:
    """The numbers of the two further processes, once both are at work."""
    until = time.monotonic() + 60
    while len(files := sorted(folder.glob("*.pid"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    return [int(file.read_text()) for file in files]


def wait_until_gone(processes: list[int]) -> None:
    until = time.monotonic() + 60
    while any(is_running(process) for process in processes):
        assert time.monotonic() < until
        time.sleep(0.05)


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.child
def test_further_processes_run_within_the_context_and_print_nothing(tmp_path, capfd):
    with FurtherProcesses(2, 7, partial(wait_for_ever, tmp_path), "glimpse train") as others:
        processes = numbers(tmp_path)
        os.kill(processes[0], signal.SIGINT)  # as Ctrl-C in a terminal, which the first process answers
        assert others.failure() is None
        assert all(map(is_running, processes))
    wait_until_gone(processes)
    assert capfd.readouterr() == ("", "")


@pytest.mark.child
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_further_processes_end_with_the_first_one(sent, tmp_path):
    root = Path(__file__).parents[5]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment) as parent:
        processes = numbers(tmp_path)
        parent.send_signal(sent)
    wait_until_gone(processes)


@pytest.mark.child
def test_an_error_that_another_process_has_caused_names_that_one():
    def wait_for_the_other() -> None:
        with FurtherProcesses(1, 5, fail, "glimpse train") as others:
            while others.failure() is None:
                time.sleep(0.05)
            raise RuntimeError("Connection closed by peer")

    with pytest.raises(RunError, match=r"process 2 of 2 failed: ValueError: no share for process 1 at port 5"):
        wait_for_the_other()


@pytest.mark.child
def test_an_error_of_the_first_process_stays_what_it_is(tmp_path):
    with pytest.raises(OSError, match="no space"), FurtherProcesses(1, 5, partial(wait_for_ever, tmp_path), "train"):
        raise OSError("no space")


def test_the_loopback_is_there_and_a_choice_of_the_user_stays(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    use_loopback()
    assert os.environ["GLOO_SOCKET_IFNAME"] in [name for _, name in socket.if_nameindex()]
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    use_loopback()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
    assert ProcessPlace(0, 0) == FIRST
