"""Reading request bodies: size limits while streaming, decompression, multipart forms."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from glimpse_serve.errors import HTTPError
from glimpse_serve.http.request import Receive
from glimpse_serve.settings import Settings

MEMORY_BODIES = 16
"""Memory for bodies that are held at once, in bodies of the greatest size; beyond it requests get 503."""
ENCODINGS = ("gzip", "deflate")
"""Accepted values of Content-Encoding."""
IMAGE_TYPES = ("image/", "application/octet-stream", "application/x-www-form-urlencoded", "binary/octet-stream")
"""Accepted prefixes of a raw body's Content-Type. curl sends x-www-form-urlencoded by default."""


class UploadedImage(NamedTuple):
    """One uploaded image file."""

    name: str
    """The file's name, else the form field's name, else its number."""
    content: bytes


class BodyReader:
    """Reads bodies within the limits of the settings, for all requests of a process.

    Args:
        settings: The limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held = 0

    @contextlib.asynccontextmanager
    async def read(self, headers: Mapping[str, str], receive: Receive) -> AsyncIterator[bytes]:
        """Read a request's body; its memory counts as held until the context ends.

        A compressed body (``Content-Encoding: gzip`` or ``deflate``) is decompressed; the size limit holds for the
        decompressed bytes.

        Args:
            headers: Headers of the request, by lower-case name.
            receive: ASGI's receive channel.

        Raises:
            HTTPError: 413 when it is larger than allowed, 408 when it is too slow, 400 when it is cut short, 415 when
                its encoding is not supported, 503 when too much memory is held already.
        """
        most = self._settings.max_bytes
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > most:
            raise _too_large(f"{int(announced):,}" if len(announced) < 20 else "far more", most)
        decompress = _decompressor(headers.get("content-encoding", ""))
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise HTTPError(400, "expected the whole body, the client left before its end", "body")
                    chunk = message.get("body", b"")
                    for part in (
                        (chunk,) if decompress is None else decompress(chunk, not message.get("more_body", False))
                    ):
                        size += len(part)
                        self._held += len(part)
                        parts.append(part)
                        if size > most:
                            raise _too_large("more", most)
                        if self._held > MEMORY_BODIES * most:
                            raise HTTPError(
                                503,
                                "expected room for the body, too many large ones are held now; try again in 1 s",
                                "overload",
                                {"Retry-After": "1", "Connection": "close"},
                            )
                    if not message.get("more_body", False):
                        break
            yield parts[0] if len(parts) == 1 else b"".join(parts)
        except TimeoutError:
            raise HTTPError(
                408,
                f"expected the whole body within {self._settings.body_seconds:g} s, got {size:,} bytes; send it "
                "faster, or less of it",
                "timeout",
                {"Connection": "close"},
            ) from None
        finally:
            self._held -= size


def parse_images(headers: Mapping[str, str], body: bytes, most: int) -> list[UploadedImage]:
    """Return the images of a body: the body itself, or the files of a multipart form.

    Args:
        headers: Headers of the request, by lower-case name.
        body: The body, decompressed.
        most: Largest number of images.

    Returns:
        At least one.

    Raises:
        HTTPError: 415 when the Content-Type is not supported, 400 when the form is damaged or holds no file, 413 when
            it holds too many.
    """
    if not is_form(headers):
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type and not content_type.startswith(IMAGE_TYPES):
            raise HTTPError(
                415,
                f"expected an image as the body (image/png, application/octet-stream) or a form (multipart/form-data) "
                f"of them, got {content_type!r:.80}; send the file's bytes as they are",
                "body",
            )
        if not body:
            raise HTTPError(400, "expected an image as the body, got none; send the file's bytes as they are", "body")
        return [UploadedImage("the image", body)]
    _, options = parse_options_header(headers["content-type"])
    boundary = options.get(b"boundary", b"")
    if not boundary or len(boundary) > 200:
        raise HTTPError(
            400, "expected a form with a boundary in its Content-Type, found none; let your client make it", "body"
        )
    found = list(_parts(body, boundary, most))
    if not found:
        raise HTTPError(
            400, "expected at least one file in the form, found none; add it as in curl -F image=@photo.png", "body"
        )
    return found


def is_form(headers: Mapping[str, str]) -> bool:
    """Return whether a body is a multipart form.

    Args:
        headers: Headers of the request, by lower-case name.
    """
    return headers.get("content-type", "").lower().startswith("multipart/form-data")


def _too_large(received: str, most: int) -> HTTPError:
    """The error for a body that is larger than allowed; the rest of it is not read."""
    return HTTPError(
        413,
        f"expected a body of at most {most:,} bytes, got {received}; send fewer or smaller images",
        "size",
        {"Connection": "close"},
    )


def _decompressor(encoding: str) -> Callable[[bytes, bool], Iterator[bytes]] | None:
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding.removeprefix("x-") not in ENCODINGS:
        raise HTTPError(
            415,
            f"expected a body that is compressed by gzip or deflate, or not at all, got {encoding!r:.80}",
            "body",
            {"Accept-Encoding": ", ".join(ENCODINGS)},
        )
    stream = zlib.decompressobj(wbits=47)  # detects gzip or zlib by the header

    def decompress(chunk: bytes, last: bool) -> Iterator[bytes]:
        try:
            while chunk:
                if stream.eof:  # zlib would buffer everything that follows
                    raise HTTPError(
                        400, f"expected nothing behind a body compressed by {encoding}, got more; leave it out", "body"
                    )
                yield stream.decompress(chunk, 2**16)
                chunk = stream.unconsumed_tail or stream.unused_data
        except zlib.error as error:
            raise HTTPError(
                400, f"expected a body compressed by {encoding}, got a damaged one ({error})", "body"
            ) from error
        if last and not stream.eof:
            raise HTTPError(400, f"expected a whole body compressed by {encoding}, got one cut short", "body")

    return decompress


def _parts(body: bytes, boundary: bytes, most: int) -> Iterator[UploadedImage]:
    """The parts of a multipart form, each taken as an image file, with or without a file name."""
    finished: list[UploadedImage] = []
    headers: dict[bytes, bytes] = {}
    name, value, content = bytearray(), bytearray(), bytearray()
    ended = [False]

    def start() -> None:
        headers.clear()
        content.clear()

    def header() -> None:
        headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def end() -> None:
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        part_name = options.get(b"filename") or options.get(b"name") or str(len(finished) + 1).encode()
        if len(finished) >= most:
            raise HTTPError(413, f"expected at most {most} images in a request, got more; send them in several", "size")
        finished.append(UploadedImage(part_name.decode("utf-8", "replace")[:200], bytes(content)))

    def finish() -> None:
        ended[0] = True

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": start,
            "on_part_data": lambda data, first, last: content.extend(data[first:last]),
            "on_part_end": end,
            "on_header_field": lambda data, first, last: name.extend(data[first:last]),
            "on_header_value": lambda data, first, last: value.extend(data[first:last]),
            "on_header_end": header,
            "on_end": finish,
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise HTTPError(400, f"expected a form (multipart/form-data), got a damaged one ({error})", "body") from error
    if not ended[0]:
        raise HTTPError(400, "expected a whole form (multipart/form-data), got one cut short; send it again", "body")
    yield from finished
