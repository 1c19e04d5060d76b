"""A process of its own for one measurement, so that nothing else has been imported and no memory been used before.

The parent calls :func:`in_a_fresh_process`; the child is this file, run as a program. The child imports neither torch
nor anything of the benchmarks.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KINDS = ("floor", "glimpse", "onnx")
MEBIBYTE = 2**20
LAST_WORDS = 240
"""Characters kept of the last line that a failed process printed."""
REPOSITORY = Path(__file__).resolve().parents[2]


def in_a_fresh_process(
    kind: str,
    file: Path | None = None,
    image: Path | None = None,
    *,
    size: str = "fit",
    limit: int | None = None,
    calls: int = 0,
    seconds: float = 600,
) -> dict[str, Any]:
    """Measure something in a process of its own.

    Args:
        kind: ``floor`` imports numpy and onnxruntime alone; ``glimpse`` opens a file with a ``GlimpseSession`` and
            classifies one image; ``onnx`` does so with onnxruntime.
        file: The ONNX file.
        image: A ``.npy`` of uint8 (height, width), which is mapped into memory.
        size: How ``glimpse`` takes the image, ``fit`` or ``native``.
        limit: Address space that the process may have, MiB; any when left out.
        calls: How often the image is classified again, with the clock running.
        seconds: After which it is given up.

    Returns:
        Times in seconds and memory in MiB, see :func:`child`; or, when the process came to no end, ``ended`` alone,
        which says how.
    """
    task = {
        "kind": kind,
        "file": str(file),
        "image": str(image),
        "size": size,
        "limit": limit,
        "calls": calls,
        "launched": time.clock_gettime(time.CLOCK_MONOTONIC),
    }
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(REPOSITORY))))
    command = [sys.executable, "-m", "benchmarks.harness.fresh_process", json.dumps(task)]
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"ended": f"given up after {seconds:.0f} s"}
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["without a word"])[-1]
        return {"ended": f"status {run.returncode}: {last[-LAST_WORDS:]}"}
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def child(task: dict[str, Any]) -> dict[str, Any]:
    """Carry out the parent's task.

    Args:
        task: See :func:`in_a_fresh_process`.

    Returns:
        ``to_import``: seconds from the launch of the process to the begin of the import. ``import``: what it took.
        ``ready``: from its end until the first image was classified. ``peak`` and ``resident``: memory, MiB.
        ``cpu``: CPU seconds of each further call.
    """
    if task["limit"]:
        most = task["limit"] * MEBIBYTE
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    began = time.clock_gettime(time.CLOCK_MONOTONIC)
    _import(task["kind"])
    imported = time.clock_gettime(time.CLOCK_MONOTONIC)
    classify = _opened(task)
    classify()
    ready = time.clock_gettime(time.CLOCK_MONOTONIC)
    memory = _memory()
    taken = []
    for _ in range(task["calls"]):
        before = time.process_time()
        classify()
        taken.append(time.process_time() - before)
    return {
        "to_import": began - task["launched"],
        "import": imported - began,
        "ready": ready - imported,
        "cpu": taken,
        **memory,
    }


def _import(kind: str) -> None:
    if kind == "glimpse":
        import glimpse.runtime.session  # noqa: F401
    else:
        import numpy  # noqa: F401
        import onnxruntime  # noqa: F401


def _opened(task: dict[str, Any]) -> Any:
    """What classifies the image."""
    if task["kind"] == "floor":
        return lambda: None
    import numpy as np

    image = np.load(task["image"], mmap_mode="r")
    if task["kind"] == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(task["file"], options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"images": image[None, None]})
    from glimpse.images.lazy import ArrayImage
    from glimpse.runtime.session import GlimpseSession

    model = GlimpseSession(task["file"], threads=1, provider="cpu", warm_up=False)
    if task["size"] == "native":
        return lambda: model.predict_one(ArrayImage(image), size="native")
    whole = np.array(image)[:, :, None]
    return lambda: model.predict_one(whole)


def _memory() -> dict[str, float]:
    """What this process has of memory, and had at most, MiB; as Linux tells it."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name in ("VmHWM", "VmRSS"):
                found["peak" if name == "VmHWM" else "resident"] = int(value.split()[0]) / 1024
    return found


if __name__ == "__main__":
    print(json.dumps(child(json.loads(sys.argv[1]))))
