"""The processes of a training that share its batches, on one machine. torch is imported in the further ones only.

The process that the user started is the first. It reads the data, makes the model and checks everything; when it
begins to train, it starts the others, which do the same from the same command line. They print nothing and write
nothing, ignore Ctrl-C, and end when the first one ends, however it ends.
"""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from pkgutil import resolve_name

from glimpse.cli.usage import RunError

FAILED = 1
PATIENCE = 10.0
"""Seconds that the first process has to notice that another one has ended, before it is ended as well."""
GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"


@dataclass(frozen=True)
class ProcessPlace:
    """Which of the processes of a training this is.

    Attributes:
        index: 0 is the one that the user started.
        port: Where they find one another, on this machine; 0 in the first, which chooses it.
    """

    index: int = 0
    port: int = 0


FIRST = ProcessPlace()
ProcessTask = Callable[[ProcessPlace], None]
"""What a further process does: it trains its share. It is sent by its name, with its arguments."""


class FurtherProcesses:
    """The processes of a training beside the first one, from the entry of the context to its end.

    Args:
        count: How many they are.
        port: Where they find the first one.
        task: What each of them does.
        program: How the user calls the command.

    Raises:
        RunError: When one of them has ended before its time, and something has failed in the first one for that.
    """

    def __init__(self, count: int, port: int, task: ProcessTask, program: str) -> None:
        self._places = [ProcessPlace(index, port) for index in range(1, count + 1)]
        self._task, self._program = task, program
        self._children: list[BaseProcess] = []
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "FurtherProcesses":
        use_loopback()
        self._folder = tempfile.TemporaryDirectory()
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._over.set()
        # Whoever waits for a process that has ended is told so a little earlier than its parent.
        if isinstance(error, RuntimeError):
            connection.wait([child.sentinel for child in self._children], timeout=1.0)
        failure = self.failure()
        self._end()
        leave_the_others()
        if isinstance(error, RuntimeError) and failure:
            raise RunError(failure) from error

    def failure(self) -> str | None:
        """What became of the first process that ended before its time; None while all of them run."""
        for place, child in zip(self._places, self._children, strict=True):
            if child.exitcode:
                lines = self._log(place).read_text(encoding="utf-8", errors="replace").strip().splitlines()
                how = f"was ended by signal {-child.exitcode}" if child.exitcode < 0 else "failed"
                said = f": {lines[-1]}" if lines else ""
                return f"process {place.index + 1} of {len(self._places) + 1} {how}{said}"
        return None

    def _start(self) -> None:
        # They inherit it: Ctrl-C goes to every process of a terminal, and the first decides what becomes of it.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        spawn = multiprocessing.get_context("spawn")
        try:
            for place in self._places:
                self._log(place).touch()
                child = spawn.Process(target=take_part, args=(self._task, place, str(self._log(place))))
                child.start()
                self._children.append(child)
            self._watcher.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _end(self) -> None:
        self._over.set()
        for child in self._children:
            child.kill()
            child.join()
        if self._watcher.ident is not None:
            self._watcher.join()
        self._folder.cleanup()

    def _log(self, place: ProcessPlace) -> Path:
        return Path(self._folder.name) / f"{place.index}.log"

    def _watch(self) -> None:
        """Wait for a process that ends before its time: the first one may wait for it for ever."""
        while not self._over.is_set() and (failure := self.failure()) is None:
            running = [child.sentinel for child in self._children if child.exitcode is None]
            if not running:
                return
            connection.wait(running, timeout=1.0)
        if not self._over.wait(PATIENCE) and failure:
            print(f"{self._program}: {failure}", file=sys.stderr, flush=True)
            os._exit(FAILED)


def use_loopback() -> None:
    """Have gloo, the processes' way to exchange gradients on processors, listen on this machine's loopback alone."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback:
        os.environ.setdefault(GLOO_INTERFACE, loopback)


def leave_the_others() -> None:
    """Have this process train alone again."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()


def take_part(task: ProcessTask, place: ProcessPlace, log: str) -> None:
    """What runs in a further process: its task, with nothing printed, until the first process ends.

    Args:
        task: What it does.
        place: Which process it is.
        log: Gets what would go to standard error.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    null, errors = os.open(os.devnull, os.O_RDWR), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor, stream in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(descriptor, stream)
    task(place)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(FAILED)


def train_share(
    command: str, arguments: Sequence[str], program: str, name: str, light: bool, place: ProcessPlace
) -> None:
    """Train one share of a training.

    Args:
        command: The class that trains when it is made, as MODULE:CLASS; imported here, where torch may be imported.
        arguments: The complete command line, with the run's folder.
        program: How the user calls the command.
        name: The recipe's name.
        light: Whether torchmetrics may be imported without what no model of ours uses.
        place: Which process this is.
    """
    from glimpse.cli.train.lightning_setup import import_metrics_lightly, quiet

    with quiet():
        if light:
            import_metrics_lightly()
        resolve_name(command)(arguments, program, name, place)
