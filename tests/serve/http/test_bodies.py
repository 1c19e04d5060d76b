import asyncio
import contextlib
import gzip
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from glimpse_serve.errors import HTTPError
from glimpse_serve.http import bodies
from glimpse_serve.http.bodies import BodyReader, UploadedImage, is_form, parse_images
from glimpse_serve.settings import Settings

SMALL = Settings(max_bytes=1024, body_seconds=0.2)


def coming(*chunks: bytes, more: bool = False) -> Callable[[], Awaitable[Any]]:
    """A body that comes in chunks; what follows never comes, or the client leaves."""
    left = list(chunks)

    async def receive() -> Any:
        if left:
            chunk = left.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(left) or more}
        return await asyncio.sleep(30)

    return receive


async def leave() -> Any:
    return {"type": "http.disconnect"}


def read(receive: Callable[[], Awaitable[Any]], settings: Settings = SMALL, **headers: str) -> bytes:
    async def main() -> bytes:
        reader = BodyReader(settings)
        try:
            async with reader.read({name.replace("_", "-"): value for name, value in headers.items()}, receive) as read:
                assert reader._held == len(read)
                return read
        finally:
            assert reader._held == 0

    return asyncio.run(main())


def test_a_body_is_put_together():
    assert read(coming(b"one ", b"two ", b"three")) == b"one two three"
    assert read(coming(b"")) == b""


@pytest.mark.parametrize(
    ("receive", "headers", "status", "message"),
    [
        (coming(b"x"), {"content_length": "1025"}, 413, "at most 1,024 bytes, got 1,025"),
        (coming(b"x"), {"content_length": "9" * 40}, 413, "got far more"),
        (coming(*[b"x" * 100] * 11), {}, 413, "at most 1,024 bytes, got more"),
        (coming(b"x" * 10, more=True), {}, 408, "within 0.2 s, got 10 bytes"),
        (leave, {}, 400, "the client left"),
        (coming(b"x"), {"content_encoding": "br"}, 415, "got 'br'"),
        (coming(b"no gzip at all"), {"content_encoding": "gzip"}, 400, "damaged"),
        (coming(gzip.compress(b"x" * 100)[:-9]), {"content_encoding": "gzip"}, 400, "cut short"),
        (coming(gzip.compress(bytes(10**7))), {"content_encoding": "gzip"}, 413, "at most 1,024 bytes"),
        (coming(zlib.compress(bytes(10**7))), {"content_encoding": "deflate"}, 413, "at most 1,024 bytes"),
    ],
)
def test_bodies_that_are_too_large_slow_or_incomplete_are_rejected(receive, headers, status, message):
    with pytest.raises(HTTPError, match=message) as error:
        read(receive, **headers)
    assert error.value.status == status


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP ", gzip.compress)]
)
def test_a_compressed_body_is_unpacked_however_it_comes(encoding, compress):
    compressed = compress(b"hello" * 100)
    chunks = [compressed[start : start + 7] for start in range(0, len(compressed), 7)]
    assert read(coming(*chunks), content_encoding=encoding) == b"hello" * 100


def test_all_bodies_together_have_a_limit():
    async def main() -> None:
        reader = BodyReader(SMALL)
        async with contextlib.AsyncExitStack() as held:
            for _ in range(bodies.MEMORY_BODIES):
                await held.enter_async_context(reader.read({}, coming(b"x" * 1024)))
            with pytest.raises(HTTPError, match="room for the body") as error:
                async with reader.read({}, coming(b"x")):
                    pass
            assert error.value.status == 503
        async with reader.read({}, coming(b"x")) as read:
            assert read == b"x"

    asyncio.run(main())


def form(parts: Sequence[tuple[str, bytes]], boundary: str = "b") -> bytes:
    lines = b"".join(
        b"--" + boundary.encode() + b"\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n" for head, content in parts
    )
    return lines + b"--" + boundary.encode() + b"--\r\n"


def test_the_files_of_a_form_are_found_with_their_names():
    headers = {"content-type": 'multipart/form-data; boundary="b"'}
    content = form(
        [
            ('Content-Disposition: form-data; name="image"; filename="a b.png"', b"one\r\n--not the end"),
            ('content-disposition: form-data; name="field"', b"two"),
            ("X-Other: y", b"three"),
            ('Content-Disposition: form-data; name="image"; filename="\xfc.png"', b""),
        ]
    )
    assert is_form(headers)
    names = [part.name for part in parse_images(headers, content, 9)]
    assert names[:3] == ["a b.png", "field", "3"]
    assert [part.content for part in parse_images(headers, content, 9)] == [
        b"one\r\n--not the end",
        b"two",
        b"three",
        b"",
    ]


def test_a_raw_body_is_one_image_whatever_curl_calls_it():
    for kind in ("image/png", "application/octet-stream", "application/x-www-form-urlencoded", ""):
        assert parse_images({"content-type": kind}, b"x", 1) == [UploadedImage("the image", b"x")]
    assert not is_form({})


def test_a_malformed_form_is_rejected_or_read():
    headers = {"content-type": "multipart/form-data; boundary=b"}
    whole = form([('Content-Disposition: form-data; name="i"; filename="a"', b"content")] * 2)
    error = others = 0
    for place in range(len(whole)):
        for bent in (
            whole[:place],
            whole[place:],
            whole[:place] + b"\0" + whole[place:],
            whole[:place] + whole[place + 1 :],
        ):
            try:
                assert parse_images(headers, bent, 9)
            except HTTPError as refusal:
                error += refusal.status in (400, 413)
                others += refusal.status not in (400, 413)
    assert error > len(whole)
    assert others == 0


def test_a_part_with_endless_headers_is_rejected():
    headers = {"content-type": "multipart/form-data; boundary=b"}
    head = "\r\n".join(f"X-{number}: y" for number in range(100))
    with pytest.raises(HTTPError, match="a damaged one"):
        parse_images(headers, form([(head, b"x")]), 9)


@pytest.mark.parametrize("behind", [(b"x",), (b"", b"x" * 100), (gzip.compress(b"more"),)])
def test_nothing_is_kept_of_what_follows_a_compressed_body(behind):
    first, *others = behind
    with pytest.raises(HTTPError, match="nothing behind a body compressed by gzip") as error:
        read(coming(gzip.compress(b"whole") + first, *others), content_encoding="gzip")
    assert error.value.status == 400
