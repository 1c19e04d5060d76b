"""Writing log lines to standard error without blocking.

A pipe whose reader has stopped takes 64 KB and then blocks the writer, which would stop the whole service. Here a line
is written at once if that is possible, at the cost of two system calls: poll and write. Otherwise a thread writes it
later. If too many lines wait, further ones are dropped and counted.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable

MAX_WAITING_LINES = 10_000
"""Largest number of waiting lines."""


class NonBlockingWriter:
    """Writes lines to a file descriptor, complete and in order. Thread-safe.

    Args:
        descriptor: A file, a pipe, a socket or a terminal that is open for writing.
        lost: Makes the line that reports the number of dropped lines.
        most: Largest number of waiting lines.
    """

    def __init__(self, descriptor: int, lost: Callable[[int], bytes], most: int = MAX_WAITING_LINES) -> None:
        self._descriptor, self._lost_line, self._most = descriptor, lost, most
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)
        self._lock = threading.RLock()  # A signal's handler may write a line while one is written.
        self._waiting: deque[bytes] = deque()
        self._thread: threading.Thread | None = None
        self._lost = 0

    def write(self, line: bytes) -> None:
        """Write a line now or later; it is dropped if too many lines wait or the reader has closed the pipe.

        Args:
            line: The line with its line end.
        """
        with self._lock:
            # A pipe that is ready for writing takes a line of up to PIPE_BUF bytes as a whole.
            if not self._waiting and len(line) <= select.PIPE_BUF and self._ready.poll(0):
                line = line[self._write_some(line) :]
                if not line:
                    return
            if len(self._waiting) >= self._most:
                self._lost += 1
                return
            self._waiting.append(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_waiting, name="log-writer", daemon=True)
                self._thread.start()

    def flush(self, seconds: float) -> None:
        """Wait until all lines are written.

        Args:
            seconds: Longest time to wait.
        """
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _write_waiting(self) -> None:
        """Write the waiting lines. A line counts as waiting until it is written, so that no other overtakes it."""
        while True:
            line = self._waiting[0]
            while line:
                line = line[self._write_some(line) :]
                if line:
                    select.select([], [self._descriptor], [], 1.0)
            with self._lock:
                self._waiting.popleft()
                if not self._waiting and self._lost:
                    self._waiting.append(self._lost_line(self._lost))
                    self._lost = 0
                if not self._waiting:
                    self._thread = None
                    return

    def _write_some(self, line: bytes) -> int:
        """Write a part of a line without blocking, and return its length; that of the line without a reader."""
        try:
            return os.write(self._descriptor, line)
        except BlockingIOError:
            return 0
        except OSError:
            return len(line)
