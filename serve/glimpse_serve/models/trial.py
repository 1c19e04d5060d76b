"""The trial of a model's file: it is loaded and run in a process of its own, which ends when it takes too much.

Loading a file already runs what somebody else wrote: the runtime works out beforehand whatever depends on no input. A
loop of 2^62 turns can't be interrupted there, and what it allocates ends the process. So a file is first tried in a
child, whose processor time and memory the system limits; the service loads it when the child has succeeded.
"""

import asyncio
import json
import math
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from glimpse_serve.models.names import ModelError
from glimpse_serve.settings import PREFIX

CLOCK_FACTOR = 6
"""How much longer than its processor time a trial may take by the clock, on a busy machine."""
TRIALS_AT_ONCE = max(2, min(4, os.cpu_count() or 1))
"""At least two, so that a file that takes long does not delay the others."""
_MODULE = "glimpse_serve.models.trial"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Threads reserve address space, of which the child has little."""


class Trial:
    """Tries files, some at a time.

    Args:
        seconds: Processor time of a trial, above 0.
        megabytes: Memory of a trial: address space, MiB.
    """

    def __init__(self, seconds: float, megabytes: int) -> None:
        self._seconds, self._megabytes = seconds, megabytes
        self._places = asyncio.Semaphore(TRIALS_AT_ONCE)

    async def run(self, path: Path) -> str:
        """Try a file. When this is cancelled, the child is killed.

        Args:
            path: The file.

        Returns:
            Its seal. The file that is loaded afterwards must have the same.

        Raises:
            ModelError: When it can't be served, takes too long, or needs too much memory.
        """
        async with self._places:
            child = self._start(path)
            try:
                return await asyncio.to_thread(self._result, child, path)
            finally:
                child.kill()

    def run_blocking(self, path: Path) -> str:
        """Try a file, and wait; see :meth:`run`."""
        return self._result(self._start(path), path)

    def _start(self, path: Path) -> "subprocess.Popen[bytes]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        folders = [folder or os.curdir for folder in sys.path]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE, str(self._seconds), str(self._megabytes), os.fspath(path)],
            env={**environment, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(folders)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C reaches the service, which ends its trials
        )

    def _result(self, child: "subprocess.Popen[bytes]", path: Path) -> str:
        with child:
            try:
                output, _ = child.communicate(timeout=self._seconds * CLOCK_FACTOR)
            except subprocess.TimeoutExpired:
                child.kill()
                raise self._error(path, "took longer") from None
        try:
            result: dict[str, Any] = json.loads(output.splitlines()[-1])
        except (IndexError, ValueError):
            raise self._error(path, _ending(child.returncode)) from None
        if "error" in result:
            raise ModelError(result["error"])
        if "sha256" not in result:
            raise self._error(path, "needed more memory")
        return str(result["sha256"])

    def _error(self, path: Path, how: str) -> ModelError:
        return ModelError(
            f"expected a model that loads and answers within {self._seconds:g} s of processor time and "
            f"{self._megabytes:,} MiB of memory, and the trial of {str(path)!r} {how}; if it comes from somebody whom "
            "you trust, allow more with --load-seconds and --load-megabytes"
        )


def _ending(status: int) -> str:
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return "took longer"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}, for which too little memory is the usual reason"
    return f"ended with status {status}"


def main(args: list[str]) -> None:
    """The child: try a file, and print the result as JSON.

    Args:
        args: Processor time in seconds, memory in MiB, and the file.
    """
    _limit(float(args[0]), int(args[1]))
    path = Path(args[2])
    result: dict[str, Any]
    try:
        # Imported under the limits.
        from glimpse_serve.models.loading import open_model

        result = {"sha256": open_model(path).sha256}
    except ModelError as error:
        result = {"error": str(error)}
    except MemoryError:
        result = {}
    print(f"\n{json.dumps(result)}", flush=True)
    os._exit(0)  # without the destructors of a runtime that has run somebody else's file


def _limit(seconds: float, megabytes: int) -> None:
    """Limit this process, let others have the processor first, and let the system end it first when memory is short."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    whole = math.ceil(seconds + spent.ru_utime + spent.ru_stime)
    for kind, limit in (
        (resource.RLIMIT_CPU, whole),
        (resource.RLIMIT_AS, megabytes * 2**20),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with suppress(ValueError, OSError):  # systems without such a limit
            resource.setrlimit(kind, (most, hard))
    with suppress(OSError):
        os.nice(5)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


if __name__ == "__main__":
    main(sys.argv[1:])
