"""How a command uses memory."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's ``mallopt`` (malloc.h)."""
NO_TRIMMING = 2**31 - 1


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next request, where it is glibc; elsewhere nothing is done.

    glibc takes every block above 32 MiB from the system and gives it back when it is freed, so that the maps of a
    network on images of 224 pixels and more are filled with zeros by the system, page by page, in every layer of every
    step. That is up to half of a training's time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, NO_TRIMMING)
