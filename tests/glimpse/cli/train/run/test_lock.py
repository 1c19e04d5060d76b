import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glimpse.cli.train.run.lock import LOCK_FILE, RunLock
from glimpse.cli.usage import UsageError

HOLDER = """
import sys, time
from pathlib import Path
from glimpse.cli.train.run.lock import RunLock
RunLock(Path(sys.argv[1])).acquire()
print("locked", flush=True)
time.sleep(600)
"""


def test_a_folder_is_locked_once_and_free_again_afterwards(tmp_path):
    with RunLock(tmp_path):
        with pytest.raises(UsageError, match=f"another training, process {os.getpid()}, is writing into this folder"):
            RunLock(tmp_path).acquire()
        assert (tmp_path / LOCK_FILE).is_file()
    assert list(tmp_path.iterdir()) == []
    with RunLock(tmp_path):
        pass


def test_a_lock_that_is_taken_again_by_its_holder_stays(tmp_path):
    lock = RunLock(tmp_path)
    lock.acquire()
    with lock, pytest.raises(UsageError):
        RunLock(tmp_path).acquire()


def test_a_file_that_was_removed_between_opening_and_locking_does_not_count(tmp_path, monkeypatch):
    opened = os.open
    times: list[int] = []

    def open_and_lose(path, *args):
        descriptor = opened(path, *args)
        if not times:
            times.append(1)
            Path(path).unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with RunLock(tmp_path), pytest.raises(UsageError):
        RunLock(tmp_path).acquire()


@pytest.mark.child
def test_the_lock_of_a_killed_process_keeps_nobody_out(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UsageError, match=f"process {holder.pid}, is writing"):
            RunLock(tmp_path).acquire()
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK_FILE).is_file()
    with RunLock(tmp_path):
        pass
