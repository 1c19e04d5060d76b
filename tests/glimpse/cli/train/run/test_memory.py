"""Memory that is freed stays with the process."""

import ctypes
import subprocess
import sys

import pytest

from glimpse.cli.train.run import memory

PROGRAM = """
import resource
from glimpse.cli.train.run.memory import keep_freed_memory
import numpy as np

keep_freed_memory()
np.ones(50_000_000, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(50_000_000, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.child
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_large_blocks_are_taken_from_the_system_once() -> None:
    faults = int(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout)
    assert faults < 2000  # 20 blocks of 12,208 pages


@pytest.mark.parametrize("error", [AttributeError("mallopt"), OSError("no such library"), TypeError("None")])
def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def missing(name: object) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", missing)
    memory.keep_freed_memory()
