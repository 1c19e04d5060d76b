"""How many threads a command computes with. torch is imported when it is asked for all processors."""

import os

THREAD_VARIABLES = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"}
"""Environment variables that are set where the user has not set them. The model's kernels are small: on two cores, the
only machine this was measured on, one thread trains faster than two, and threads that spin while they wait are up to
ten times slower. With more cores, or a larger model, more threads may pay: the help says how to set them."""
_set: set[str] = set()


def set_defaults() -> None:
    """Set the variables of :data:`THREAD_VARIABLES` that the user has not set; before torch is imported."""
    for name, value in THREAD_VARIABLES.items():
        if name not in os.environ:
            os.environ[name] = value
            _set.add(name)


def use_all_processors() -> None:
    """Compute on all processors that this process may use, unless the user chose a number by OMP_NUM_THREADS.

    Networks of large images gain from it, where the small kernels of a retina do not.
    """
    import torch

    if "OMP_NUM_THREADS" in os.environ and "OMP_NUM_THREADS" not in _set:
        return
    available = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    torch.set_num_threads(len(available))
