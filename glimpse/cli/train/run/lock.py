"""The lock on a run's folder: two trainings never write into one."""

import errno
import fcntl
import os
from pathlib import Path

from glimpse.cli.usage import UsageError

LOCK_FILE = ".lock"
"""The file in a run's folder that a training holds locked; it names the training's process."""
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES)


class RunLock:
    """A lock on a folder, from the entry of the context to its end.

    The system lifts it when the process ends, however it ends; the file of a process that was killed stays, and locks
    nothing. On a file system that has no locks there is none.

    Args:
        folder: A folder that exists.

    Raises:
        UsageError: When another process holds it.
        OSError: When the file can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / LOCK_FILE
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock."""
        # Whoever lifts the lock removes the file: a lock on a file that is gone keeps nobody out.
        while self._descriptor is None:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.read(descriptor, 32).decode(errors="replace").strip()
                os.close(descriptor)
                if error.errno not in _TAKEN:
                    return
                raise UsageError(
                    f"{self._folder}: another training{f', process {holder},' * bool(holder)} is writing into this "
                    "folder; wait until it has ended, or give another folder with --output"
                ) from error
            if self._is_named(descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                self._descriptor = descriptor
            else:
                os.close(descriptor)

    def release(self) -> None:
        """Lift the lock, and remove its file."""
        if self._descriptor is not None:
            self._file.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "RunLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _is_named(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._file.stat())
        except FileNotFoundError:
            return False
