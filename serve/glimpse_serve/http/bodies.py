"""Taking in what a client sends: bodies counted while they stream, forms with several images, large images apart."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from glimpse.images.pixels import ImageError, TooManyPixelsError
from glimpse_serve.errors import HTTPError
from glimpse_serve.inference.batcher import WorkerThreads
from glimpse_serve.inference.jobs import DecodedImage
from glimpse_serve.inference.model import ServedModel
from glimpse_serve.settings import Settings

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Result = TypeVar("Result")

MEMORY_BODIES = 16
"""Bodies of the greatest size that are held at once; what goes beyond is answered 503."""
PACKINGS = ("gzip", "deflate")
"""How a body may be compressed."""
MAX_APART = 32
"""Large images that are worked on or wait for it, at most."""
IMAGE_TYPES = ("image/", "application/octet-stream", "application/x-www-form-urlencoded", "binary/octet-stream")
"""What a raw body may call itself. curl calls any body a form unless told otherwise."""


class Part(NamedTuple):
    """One image of several."""

    name: str
    """What its sender calls it: the file's name, else the field's, else its number."""
    content: bytes


class BodyReader:
    """Takes bodies in, within the limits that were set, for all the requests of a process together.

    Args:
        settings: The limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held = 0
        self._crew = WorkerThreads(2)  # whose threads keep nobody from ending, whatever they still decode
        self._apart = 0

    @contextlib.asynccontextmanager
    async def body(self, headers: Mapping[str, str], receive: Receive) -> AsyncIterator[bytes]:
        """Read a request's body, and hold it while the context lasts.

        A body that is compressed (``Content-Encoding: gzip`` or ``deflate``) is unpacked; the limit holds for what
        comes out.

        Args:
            headers: Of the request, names in small letters.
            receive: From which the body comes.

        Raises:
            Refusal: 413 when it is larger than allowed, 408 when it is too slow, 400 when it is cut short, 415 when it
                is compressed in another way, 503 when too much is held already.
        """
        most = self._settings.max_bytes
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > most:
            raise _too_large(f"{int(announced):,}" if len(announced) < 20 else "far more", most)
        unpack = _unpacker(headers.get("content-encoding", ""))
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise HTTPError(400, "expected the whole body, the client left before its end", "body")
                    chunk = message.get("body", b"")
                    for part in (chunk,) if unpack is None else unpack(chunk, not message.get("more_body", False)):
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

    async def canvas(self, model: ServedModel, image: bytes, name: str) -> DecodedImage:
        """Decode a large image apart from the others, and put it onto a model's canvas.

        Args:
            model: The model.
            image: The bytes of an image file.
            name: What errors call it.

        Raises:
            Refusal: 422 when it is no image, 413 when it has too many pixels, 408 when it takes too long, 503 when too
                many wait.
        """
        return await self.apart(lambda: model.canvas(image, name, self._settings.max_pixels), name)

    async def apart(self, work: Callable[[], Result], name: str) -> Result:
        """Do something with an image in a thread of the few that are for it, in time.

        Args:
            work: What to do.
            name: What errors call the image.

        Raises:
            Refusal: 408 when it takes too long, 503 when too many wait, 422 or 413 when it raises an ImageError.
        """
        if self._apart >= MAX_APART:
            raise HTTPError(
                503, "expected fewer large images to be worked on; try again in 1 s", "overload", {"Retry-After": "1"}
            )
        seconds = self._settings.decode_seconds
        self._apart += 1
        doing = self._doing(work)
        # A thread can't be stopped: what takes too long goes on to its end, and counts until then.
        doing.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(doing), seconds)
        except TimeoutError:
            raise HTTPError(
                408,
                f"expected to be done with {name} within {seconds:g} s; send it smaller, or in another format",
                "timeout",
            ) from None
        except ImageError as error:
            raise image_refusal(error) from error

    def close(self) -> None:
        """Let the threads go."""
        self._crew.close()

    def _doing(self, work: Callable[[], Result]) -> "asyncio.Future[Result]":
        loop = asyncio.get_running_loop()
        doing: asyncio.Future[Result] = loop.create_future()

        def tell(setter: Callable[[Any], None], found: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile, and nobody waits
                loop.call_soon_threadsafe(setter, found)

        def do() -> None:
            try:
                found = work()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told to whoever waits
                tell(doing.set_exception, error)
            else:
                tell(doing.set_result, found)

        self._crew.hand(do)
        return doing

    def _done(self, work: "asyncio.Future[Any]") -> None:
        self._apart -= 1
        if not work.cancelled():
            work.exception()  # told to whoever still waits for it


def image_refusal(error: ImageError) -> HTTPError:
    """What the sender of an image is told that can't be read.

    Args:
        error: Why it can't.
    """
    if isinstance(error, TooManyPixelsError):
        return HTTPError(413, str(error), "size")
    return HTTPError(422, str(error), "image")


def images(headers: Mapping[str, str], body: bytes, most: int) -> list[Part]:
    """Find the images in a body: itself, or the files of a form.

    Args:
        headers: Of the request, names in small letters.
        body: As it came.
        most: Images at most.

    Returns:
        At least one.

    Raises:
        Refusal: 415 when the body says that it is something else, 400 when the form is damaged or holds no file, 413
            when it holds too many.
    """
    if not is_form(headers):
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not kind.startswith(IMAGE_TYPES):
            raise HTTPError(
                415,
                f"expected an image as the body (image/png, application/octet-stream) or a form (multipart/form-data) "
                f"of them, got {kind!r:.80}; send the file's bytes as they are",
                "body",
            )
        if not body:
            raise HTTPError(400, "expected an image as the body, got none; send the file's bytes as they are", "body")
        return [Part("the image", body)]
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
    """Say whether a body is a form with files.

    Args:
        headers: Of the request, names in small letters.
    """
    return headers.get("content-type", "").lower().startswith("multipart/form-data")


def _too_large(came: str, most: int) -> HTTPError:
    """What the sender of a body is told that is larger than allowed; the rest of it is not read."""
    return HTTPError(
        413,
        f"expected a body of at most {most:,} bytes, got {came}; send fewer or smaller images",
        "size",
        {"Connection": "close"},
    )


def _unpacker(encoding: str) -> Callable[[bytes, bool], Iterator[bytes]] | None:
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding.removeprefix("x-") not in PACKINGS:
        raise HTTPError(
            415,
            f"expected a body that is compressed by gzip or deflate, or not at all, got {encoding!r:.80}",
            "body",
            {"Accept-Encoding": ", ".join(PACKINGS)},
        )
    packed = zlib.decompressobj(wbits=47)  # the header tells gzip from zlib

    def unpack(chunk: bytes, last: bool) -> Iterator[bytes]:
        try:
            while chunk:
                if packed.eof:  # zlib would keep what follows, however much that is
                    raise HTTPError(
                        400, f"expected nothing behind a body compressed by {encoding}, got more; leave it out", "body"
                    )
                yield packed.decompress(chunk, 2**16)
                chunk = packed.unconsumed_tail or packed.unused_data
        except zlib.error as error:
            raise HTTPError(
                400, f"expected a body compressed by {encoding}, got a damaged one ({error})", "body"
            ) from error
        if last and not packed.eof:
            raise HTTPError(400, f"expected a whole body compressed by {encoding}, got one cut short", "body")

    return unpack


def _parts(body: bytes, boundary: bytes, most: int) -> Iterator[Part]:
    """The files of a form; parts without a file name count where they hold something else than text."""
    finished: list[Part] = []
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
        called = options.get(b"filename") or options.get(b"name") or str(len(finished) + 1).encode()
        if len(finished) >= most:
            raise HTTPError(413, f"expected at most {most} images in a request, got more; send them in several", "size")
        finished.append(Part(called.decode("utf-8", "replace")[:200], bytes(content)))

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
