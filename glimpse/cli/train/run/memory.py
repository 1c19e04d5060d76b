"""What the C library does with memory that a training frees."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's ``mallopt`` (malloc.h)."""
NO_TRIMMING = 2**31 - 1


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next request, where it is glibc; elsewhere nothing is done.

    glibc takes every block above 32 MiB from the system and gives it back when it is freed, so that the maps of a
    network on images of 224 pixels and more are filled with zeros by the system, page by page, in every layer of every
    step: on the processor that was tried a third of a training step's time, and half of an evaluation's.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, NO_TRIMMING)
