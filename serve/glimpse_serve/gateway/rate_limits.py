"""Rate limits that hold across the worker processes: token buckets in a memory-mapped file that all of them share.

A bucket holds at most ``burst`` tokens and gains ``rate`` tokens a second; a request takes one. Buckets are kept in a
hash table of fixed size, with four slots a row. In a full row the bucket that was idle longest is replaced, which can
only raise the share of a client. Times are those of CLOCK_MONOTONIC, which all processes share. The lock is an flock,
which the kernel releases when its holder dies.
"""

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
from pathlib import Path

ROWS = 2048
SLOTS = 4
_BUCKET = struct.Struct("<Qdd")
"""Hash of the name, number of tokens, time of the last update."""


class RateLimiter:
    """Token buckets by name.

    Args:
        file: File that the processes share, created if missing; None for this process alone.
    """

    def __init__(self, file: Path | None = None) -> None:
        size = ROWS * SLOTS * _BUCKET.size
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        if file is None:
            self._table = mmap.mmap(-1, size)
            return
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._descriptor, size)
        self._table = mmap.mmap(self._descriptor, size)

    def take(self, name: str, rate: float, burst: int) -> float:
        """Take a token.

        Args:
            name: Name of the bucket.
            rate: Tokens gained a second, above 0.
            burst: Largest number of tokens, at least 1.

        Returns:
            0 when a token was taken, else the seconds until there will be one.
        """
        key = (
            int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")
            or 1
        )
        with self._lock:
            if self._descriptor is not None:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                return self._take(key, rate, burst, time.monotonic())
            finally:
                if self._descriptor is not None:
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the table and its file."""
        self._table.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, key: int, rate: float, burst: int, now: float) -> float:
        start = (key % ROWS) * SLOTS * _BUCKET.size
        offsets = [start + slot * _BUCKET.size for slot in range(SLOTS)]
        buckets = [_BUCKET.unpack_from(self._table, offset) for offset in offsets]
        slot = next((slot for slot, bucket in enumerate(buckets) if bucket[0] == key), None)
        if slot is None:
            slot = min(range(SLOTS), key=lambda each: buckets[each][2])
            tokens = float(burst)
        else:
            _, tokens, counted = buckets[slot]
            tokens = min(float(burst), tokens + max(0.0, now - counted) * rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / rate
        _BUCKET.pack_into(self._table, offsets[slot], key, tokens if wait else tokens - 1, now)
        return wait
