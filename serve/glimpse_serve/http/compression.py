"""Compressing responses for clients that accept it."""

import gzip
import zlib

from glimpse_serve.http.request import Response

MIN_BYTES = 1024
"""Shorter bodies are sent uncompressed."""
LEVEL = 1
"""Numbers hardly compress: the lowest level reaches nearly the same size in a fifth of the time."""


def compress(response: Response, accepted: str) -> Response:
    """Compress a response if its client accepts that and its body is at least :data:`MIN_BYTES` long.

    Args:
        response: The response.
        accepted: The request's ``Accept-Encoding`` header.
    """
    if not accepted or len(response.body) < MIN_BYTES:
        return response
    encoding = _choose_encoding(accepted)
    if encoding is None:
        return response
    compressed = (
        gzip.compress(response.body, LEVEL, mtime=0) if encoding == "gzip" else zlib.compress(response.body, LEVEL)
    )
    headers = {**response.headers, "Content-Encoding": encoding, "Vary": "Accept-Encoding"}
    return response._replace(body=compressed, headers=headers)


def _choose_encoding(accepted: str) -> str | None:
    """Choose gzip or deflate by their quality values (RFC 9110, 12.5.3); None when neither is accepted."""
    qualities: dict[str, float] = {}
    for item in accepted.lower().split(","):
        name, _, options = item.partition(";")
        quality = 1.0
        if options.strip().startswith("q="):
            try:
                quality = float(options.strip()[2:])
            except ValueError:
                quality = 0.0
        qualities[name.strip()] = quality
    best = max(("gzip", "deflate"), key=lambda name: qualities.get(name, qualities.get("*", 0.0)))
    return best if qualities.get(best, qualities.get("*", 0.0)) > 0 else None
