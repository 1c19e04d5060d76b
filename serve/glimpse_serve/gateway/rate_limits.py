"""Rates of requests, kept right across the worker processes: token buckets in a file that they all have mapped.

A bucket holds at most ``burst`` tokens and gains ``rate`` a second; a request takes one. Buckets lie in a table of
fixed size by the hash of their name, four places to a row; where a row is full the bucket that was idle longest gives
way, which can only ever let somebody have more than his share. Times are CLOCK_MONOTONIC's, which all processes have in
common.
The lock is the kernel's (flock), which lets it go when its holder dies.
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
WAYS = 4
_BUCKET = struct.Struct("<Qdd")
"""The name's hash, the tokens, and when they were counted."""


class RateLimiter:
    """Token buckets by name.

    Args:
        file: That the processes share, made if it is not there; None for this process alone.
    """

    def __init__(self, file: Path | None = None) -> None:
        size = ROWS * WAYS * _BUCKET.size
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
            name: Whose.
            rate: Tokens that a second brings, above 0.
            burst: Tokens at most, at least 1.

        Returns:
            0 when there was one, else the seconds until there will be.
        """
        number = (
            int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")
            or 1
        )
        with self._lock:
            if self._descriptor is not None:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                return self._take(number, rate, burst, time.monotonic())
            finally:
                if self._descriptor is not None:
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let the table go."""
        self._table.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, number: int, rate: float, burst: int, now: float) -> float:
        start = (number % ROWS) * WAYS * _BUCKET.size
        places = [start + way * _BUCKET.size for way in range(WAYS)]
        buckets = [_BUCKET.unpack_from(self._table, place) for place in places]
        way = next((way for way, bucket in enumerate(buckets) if bucket[0] == number), None)
        if way is None:
            way = min(range(WAYS), key=lambda each: buckets[each][2])
            tokens = float(burst)
        else:
            _, tokens, counted = buckets[way]
            tokens = min(float(burst), tokens + max(0.0, now - counted) * rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / rate
        _BUCKET.pack_into(self._table, places[way], number, tokens if wait else tokens - 1, now)
        return wait
