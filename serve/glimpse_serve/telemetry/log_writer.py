"""Standard error, written to without ever waiting for whoever reads it.

A pipe whose reader has stopped takes 64 KB and then makes a writer wait, which would stop the whole service. Here a
line is written at once where that is possible, which costs one system call to ask and one to write. Where it is not, a
thread writes it later; where too many lines wait for that, further ones are dropped, and counted.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable

MOST = 10_000
"""Lines that may wait."""


class NonBlockingWriter:
    """A file descriptor for lines, which come out whole and in order. Safe for threads.

    Args:
        descriptor: A file, a pipe, a socket or a terminal that is open for writing.
        lost: Makes the line that tells how many were dropped.
        most: Lines that may wait.
    """

    def __init__(self, descriptor: int, lost: Callable[[int], bytes], most: int = MOST) -> None:
        self._descriptor, self._lost_line, self._most = descriptor, lost, most
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)
        self._lock = threading.RLock()  # A signal's handler may write a line while one is written.
        self._waiting: deque[bytes] = deque()
        self._writer: threading.Thread | None = None
        self._lost = 0

    def write(self, line: bytes) -> None:
        """Write a line, now or soon; one that can't be written because nobody is there to read it is dropped.

        Args:
            line: With its end.
        """
        with self._lock:
            # What is no longer than this a pipe takes as a whole, once it says that it takes anything.
            if not self._waiting and len(line) <= select.PIPE_BUF and self._ready.poll(0):
                line = line[self._put(line) :]
                if not line:
                    return
            if len(self._waiting) >= self._most:
                self._lost += 1
                return
            self._waiting.append(line)
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_on, name="outlet", daemon=True)
                self._writer.start()

    def flush(self, seconds: float) -> None:
        """Wait until everything is written, but not for ever.

        Args:
            seconds: How long at most.
        """
        writer = self._writer
        if writer is not None:
            writer.join(seconds)

    def _write_on(self) -> None:
        """Write what waits until nothing does. A line counts as waiting until it is out, so that none overtakes it."""
        while True:
            line = self._waiting[0]
            while line:
                line = line[self._put(line) :]
                if line:
                    select.select([], [self._descriptor], [], 1.0)
            with self._lock:
                self._waiting.popleft()
                if not self._waiting and self._lost:
                    self._waiting.append(self._lost_line(self._lost))
                    self._lost = 0
                if not self._waiting:
                    self._writer = None
                    return

    def _put(self, line: bytes) -> int:
        """Write what goes out, and tell how much that was: all of it where there is no reader any more."""
        try:
            return os.write(self._descriptor, line)
        except BlockingIOError:
            return 0
        except OSError:
            return len(line)
