"""Compressing answers, for clients that ask for it."""

import gzip
import zlib

from glimpse_serve.http.request import Response

WORTH_BYTES = 1024
"""Shorter answers are sent as they are."""
LEVEL = 1
"""Numbers hardly compress; what can be had is had at the lowest level, at a fifth of the time."""


def pack(answer: Response, accepted: str) -> Response:
    """Compress an answer, if its client takes it so and it is worth it.

    Args:
        answer: The answer.
        accepted: The request's ``Accept-Encoding``.
    """
    if not accepted or len(answer.body) < WORTH_BYTES:
        return answer
    encoding = _choose(accepted)
    if encoding is None:
        return answer
    packed = gzip.compress(answer.body, LEVEL, mtime=0) if encoding == "gzip" else zlib.compress(answer.body, LEVEL)
    headers = {**answer.headers, "Content-Encoding": encoding, "Vary": "Accept-Encoding"}
    return answer._replace(body=packed, headers=headers)


def _choose(accepted: str) -> str | None:
    """The first of gzip and deflate that is accepted, by RFC 9110, 12.5.3."""
    wanted: dict[str, float] = {}
    for entry in accepted.lower().split(","):
        name, _, options = entry.partition(";")
        quality = 1.0
        if options.strip().startswith("q="):
            try:
                quality = float(options.strip()[2:])
            except ValueError:
                quality = 0.0
        wanted[name.strip()] = quality
    best = max(("gzip", "deflate"), key=lambda name: wanted.get(name, wanted.get("*", 0.0)))
    return best if wanted.get(best, wanted.get("*", 0.0)) > 0 else None
