import asyncio
import contextlib
import gzip
import threading
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from glimpse.images.pixels import ImageError, TooManyPixelsError
from glimpse_serve.errors import HTTPError
from glimpse_serve.http import bodies
from glimpse_serve.http.bodies import BodyReader, Part, image_refusal, images, is_form
from glimpse_serve.http.cancellation import unless_gone
from glimpse_serve.settings import Settings

SMALL = Settings(max_bytes=1024, body_seconds=0.2, decode_seconds=0.2)


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
        takes = BodyReader(settings)
        try:
            async with takes.body({name.replace("_", "-"): value for name, value in headers.items()}, receive) as body:
                assert takes._held == len(body)
                return body
        finally:
            assert takes._held == 0
            takes.close()

    return asyncio.run(main())


def test_a_body_is_put_together():
    assert read(coming(b"one ", b"two ", b"three")) == b"one two three"
    assert read(coming(b"")) == b""


@pytest.mark.parametrize(
    ("receive", "headers", "status", "sentence"),
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
def test_bodies_that_are_too_much_or_not_enough_are_refused(receive, headers, status, sentence):
    with pytest.raises(HTTPError, match=sentence) as refused:
        read(receive, **headers)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP ", gzip.compress)]
)
def test_a_compressed_body_is_unpacked_however_it_comes(encoding, pack):
    packed = pack(b"hello" * 100)
    chunks = [packed[start : start + 7] for start in range(0, len(packed), 7)]
    assert read(coming(*chunks), content_encoding=encoding) == b"hello" * 100


def test_all_bodies_together_have_a_limit():
    async def main() -> None:
        takes = BodyReader(SMALL)
        async with contextlib.AsyncExitStack() as held:
            for _ in range(bodies.MEMORY_BODIES):
                await held.enter_async_context(takes.body({}, coming(b"x" * 1024)))
            with pytest.raises(HTTPError, match="room for the body") as refused:
                async with takes.body({}, coming(b"x")):
                    pass
            assert refused.value.status == 503
        async with takes.body({}, coming(b"x")) as body:
            assert body == b"x"
        takes.close()

    asyncio.run(main())


def test_what_is_done_apart_has_a_time_and_a_number(monkeypatch):
    monkeypatch.setattr(bodies, "MAX_APART", 3)
    go = threading.Event()

    async def main() -> None:
        takes = BodyReader(SMALL)
        waiting = [asyncio.create_task(takes.apart(lambda: go.wait(10), "a.png")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(HTTPError, match="fewer large images") as refused:
            await takes.apart(lambda: 1, "b.png")
        assert refused.value.status == 503
        for task in waiting:
            with pytest.raises(HTTPError, match=r"done with a\.png within 0\.2 s"):
                await task
        go.set()
        while takes._apart:
            await asyncio.sleep(0.01)
        assert await takes.apart(lambda: 7, "c.png") == 7
        takes.close()

    asyncio.run(main())


def test_an_image_that_can_not_be_read_apart_is_refused():
    def fails() -> None:
        raise ImageError("it is damaged")

    async def main() -> None:
        takes = BodyReader(SMALL)
        with pytest.raises(HTTPError, match="it is damaged") as refused:
            await takes.apart(fails, "a.png")
        assert refused.value.status == 422
        takes.close()

    asyncio.run(main())


def test_images_are_refused_by_what_is_wrong_with_them():
    assert image_refusal(ImageError("x")).status == 422
    assert image_refusal(TooManyPixelsError("x")).status == 413


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
    names = [part.name for part in images(headers, content, 9)]
    assert names[:3] == ["a b.png", "field", "3"]
    assert [part.content for part in images(headers, content, 9)] == [b"one\r\n--not the end", b"two", b"three", b""]


def test_a_raw_body_is_one_image_whatever_curl_calls_it():
    for kind in ("image/png", "application/octet-stream", "application/x-www-form-urlencoded", ""):
        assert images({"content-type": kind}, b"x", 1) == [Part("the image", b"x")]
    assert not is_form({})


def test_a_form_that_is_bent_in_any_way_is_refused_or_read():
    headers = {"content-type": "multipart/form-data; boundary=b"}
    whole = form([('Content-Disposition: form-data; name="i"; filename="a"', b"content")] * 2)
    refused = others = 0
    for place in range(len(whole)):
        for bent in (
            whole[:place],
            whole[place:],
            whole[:place] + b"\0" + whole[place:],
            whole[:place] + whole[place + 1 :],
        ):
            try:
                assert images(headers, bent, 9)
            except HTTPError as refusal:
                refused += refusal.status in (400, 413)
                others += refusal.status not in (400, 413)
    assert refused > len(whole)
    assert others == 0


def test_a_part_with_endless_headers_is_refused():
    headers = {"content-type": "multipart/form-data; boundary=b"}
    head = "\r\n".join(f"X-{number}: y" for number in range(100))
    with pytest.raises(HTTPError, match="a damaged one"):
        images(headers, form([(head, b"x")]), 9)


async def stay() -> Any:
    await asyncio.sleep(30)


def test_an_answer_is_handed_on():
    async def answer() -> int:
        return 7

    async def main() -> None:
        assert await unless_gone(stay, answer(), 1.0) == 7

    asyncio.run(main())


def test_what_nobody_waits_for_is_cancelled():
    async def main() -> None:
        answer = asyncio.get_running_loop().create_future()
        with pytest.raises(HTTPError, match="left before") as refused:
            await unless_gone(leave, answer, 5.0)
        assert refused.value.status == 499
        assert answer.cancelled()

    asyncio.run(main())


def test_an_answer_that_takes_too_long_is_refused():
    async def main() -> None:
        answer = asyncio.get_running_loop().create_future()
        with pytest.raises(HTTPError, match="deadline") as refused:
            await unless_gone(stay, answer, 0.1)
        assert refused.value.status == 504
        assert answer.cancelled()

    asyncio.run(main())


def test_who_is_cancelled_cancels_what_he_waits_for():
    async def main() -> None:
        answer = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(unless_gone(stay, answer, 5.0))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert answer.cancelled()

    asyncio.run(main())


def test_a_refusal_passes():
    async def refuses() -> None:
        raise HTTPError(422, "no", "image")

    async def main() -> None:
        with pytest.raises(HTTPError, match="no"):
            await unless_gone(stay, refuses(), 1.0)

    asyncio.run(main())


@pytest.mark.parametrize("behind", [(b"x",), (b"", b"x" * 100), (gzip.compress(b"more"),)])
def test_nothing_is_kept_of_what_follows_a_compressed_body(behind):
    first, *others = behind
    with pytest.raises(HTTPError, match="nothing behind a body compressed by gzip") as refused:
        read(coming(gzip.compress(b"whole") + first, *others), content_encoding="gzip")
    assert refused.value.status == 400
