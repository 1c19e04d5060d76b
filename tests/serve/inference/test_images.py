import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.serving.faults.rich_files import rich_files
from glimpse.contract.card import CanvasShape
from glimpse.images.pixels import ImageError, TooCostlyError, TooManyPixelsError, fit
from glimpse_serve.errors import HTTPError
from glimpse_serve.inference import images
from glimpse_serve.inference.decoder import DecodedImage, DecodeRequest
from glimpse_serve.inference.decoder_process import DecoderProcess
from glimpse_serve.inference.images import BYTE_SECONDS, IN_THREAD_BYTES, IN_THREAD_SECONDS, ImageWorkers, image_error
from glimpse_serve.inference.lanes import Lane
from glimpse_serve.settings import Settings
from tests.support.costly_images import encode, jpeg_with_scans
from tests.support.service import png
from tests.support.toys import noise

REQUEST = DecodeRequest("a.png", 2**24, CanvasShape(28, 28, 1))
LARGE = encode(Image.new("RGB", (4000, 4000)), "PNG")
SLOW = b"P3 1000 1000 255\n" + b"1 " * (3 * 1000 * 1000)
"""Takes Pillow about a second."""


def with_workers(act: Callable[[ImageWorkers], Awaitable[Any]], **changes: Any) -> Any:
    async def main() -> Any:
        workers = ImageWorkers(Settings(**changes))
        try:
            return await act(workers)
        finally:
            workers.close()

    return asyncio.run(main())


def test_a_light_image_starts_no_process():
    image = noise(300, 300, 3)

    async def act(workers: ImageWorkers) -> DecodedImage:
        found = await workers.decode(png(image), REQUEST)
        assert [decoder.pid for decoder in workers._decoders if decoder.pid] == []
        return found

    found = with_workers(act)
    np.testing.assert_array_equal(found.pixels, fit(image, 28, 28, 1))


class Places:
    """Notes which requests are decoded in a thread and which in a process, and decodes nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *estimates: float) -> None:
        self.threads: list[DecodeRequest] = []
        self.processes: list[DecodeRequest] = []
        left = list(estimates)

        def answer(request: DecodeRequest) -> DecodedImage:
            if left and left[0] > request.max_estimate:
                raise TooCostlyError("too long", left.pop(0))
            return DecodedImage(noise(2, 2, 1), 2, 2)

        def in_thread(_: bytes, request: DecodeRequest) -> DecodedImage:
            self.threads.append(request)
            return answer(request)

        def in_process(_: object, __: bytes, request: DecodeRequest, ___: object) -> DecodedImage:
            self.processes.append(request)
            return answer(request)

        monkeypatch.setattr(images, "decode_image", in_thread)
        monkeypatch.setattr(DecoderProcess, "decode", in_process)


@pytest.mark.parametrize(("name", "make"), rich_files(IN_THREAD_BYTES + 100_000).items())
def test_a_file_of_many_bytes_is_not_looked_into_by_the_service(name, make, monkeypatch):
    places = Places(monkeypatch)
    data = make()
    with_workers(lambda workers: workers.decode(data, REQUEST))
    large = len(data) > IN_THREAD_BYTES
    assert (len(places.threads), len(places.processes)) == ((0, 1) if large else (1, 0))
    if large:
        assert places.processes[0].max_estimate == pytest.approx(2 * BYTE_SECONDS * len(data))
    else:
        assert places.threads[0].max_estimate == IN_THREAD_SECONDS


def test_it_is_admitted_by_its_bytes_and_once_more_where_they_say_too_little(monkeypatch):
    admitted: list[float] = []
    run = Lane.run

    async def noted(self: Lane, work: Any, seconds: float = 0.0, stop: Any = None) -> Any:
        admitted.append(seconds)
        return await run(self, work, seconds, stop)

    monkeypatch.setattr(Lane, "run", noted)
    data = bytes(4_000_000)
    for estimates, expected in (((), [0.4]), ((0.7,), [0.4]), ((0.9,), [0.4, 0.9]), ((1.0, 3.0), [0.4, 1.0, 3.0])):
        admitted.clear()
        Places(monkeypatch, *estimates)
        with_workers(lambda workers: workers.decode(data, REQUEST))
        assert admitted == pytest.approx(expected)
    Places(monkeypatch, 5.5)
    with pytest.raises(HTTPError, match=r"is estimated to take 5\.5 s") as error:
        with_workers(lambda workers: workers.decode(data, REQUEST))
    assert error.value.status == 413


def test_more_bytes_than_can_be_decoded_in_time_are_looked_into_all_the_same(monkeypatch):
    places = Places(monkeypatch)
    with_workers(lambda workers: workers.decode(bytes(4_000_000), REQUEST), decode_seconds=0.2)
    assert places.processes[0].max_estimate == 0.2


@pytest.mark.child
def test_a_heavy_image_is_decoded_in_a_process_that_ends_with_the_service():
    async def act(workers: ImageWorkers) -> tuple[DecodedImage, list[Any]]:
        found = await workers.decode(LARGE, REQUEST)
        assert [decoder.pid for decoder in workers._decoders if decoder.pid]
        return found, workers._decoders

    found, decoders = with_workers(act, decode_seconds=60.0)
    assert (found.height, found.width, found.pixels.shape) == (4000, 4000, (28, 28, 1))
    assert [decoder.pid for decoder in decoders if decoder.pid] == []


def test_images_that_can_not_be_read_are_rejected():
    for data, status, message in (
        (b"none", 422, r"'a\.png' is no image"),
        (jpeg_with_scans(400, 2000), 422, "more than 100 scans"),
        (encode(Image.new("1", (5000, 5000)), "PNG"), 413, "5000 x 5000 pixels"),
    ):

        async def act(workers: ImageWorkers, data: bytes = data) -> DecodedImage:
            return await workers.decode(data, REQUEST)

        with pytest.raises(HTTPError, match=message) as error:
            with_workers(act)
        assert error.value.status == status


def test_an_image_that_can_not_be_done_in_time_by_its_estimate_is_rejected_unseen():
    slow = b"P6 800 800 254\n" + bytes(3 * 800 * 800)
    with pytest.raises(HTTPError, match=r"decoded within 0\.5 s, a\.png is estimated to take 1\.\d s") as error:
        with_workers(lambda workers: workers.decode(slow, REQUEST), decode_seconds=0.5)
    assert error.value.status == 413


@pytest.mark.child
def test_a_heavy_image_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(images, "IN_THREAD_SECONDS", 0.0)  # so that it is heavy; a process takes longer to start

    async def act(workers: ImageWorkers) -> None:
        with pytest.raises(HTTPError, match=r"done with a\.png within 0\.01 s") as error:
            await workers.decode(png(noise(30, 30, 3)), REQUEST)
        assert error.value.status == 408
        while workers._heavy.entries:
            await asyncio.sleep(0.01)
        assert [decoder.pid for decoder in workers._decoders if decoder.pid] == []

    with_workers(act, decode_seconds=0.01)


@pytest.mark.child
def test_the_process_of_an_image_is_ended_when_nobody_waits_for_it():
    async def act(workers: ImageWorkers) -> None:
        tasks = [asyncio.create_task(workers.decode(SLOW, REQUEST)) for _ in range(6)]
        while not any(decoder.pid for decoder in workers._decoders):
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while workers._heavy.entries:
            await asyncio.sleep(0.01)
        assert [decoder.pid for decoder in workers._decoders if decoder.pid] == []
        assert workers._heavy.seconds == 0

    with_workers(act)


@pytest.mark.child
def test_light_images_do_not_wait_behind_heavy_ones():
    async def act(workers: ImageWorkers) -> None:
        heavy = [asyncio.create_task(workers.decode(SLOW, REQUEST)) for _ in range(2)]
        while not workers._heavy.entries:
            await asyncio.sleep(0.01)
        for seed in range(10):
            assert (await workers.decode(png(noise(300, 300, 3, seed=seed)), REQUEST)).height == 300
        assert not any(task.done() for task in heavy)
        for task in heavy:
            task.cancel()
        await asyncio.gather(*heavy, return_exceptions=True)

    with_workers(act)


@pytest.mark.child
def test_only_as_much_is_admitted_as_can_be_done_in_time():
    async def act(workers: ImageWorkers) -> list[Any]:
        return await asyncio.gather(*(workers.decode(LARGE, REQUEST) for _ in range(30)), return_exceptions=True)

    found = with_workers(act, deadline_seconds=4.0, decode_seconds=20.0)
    refused = [error for error in found if isinstance(error, HTTPError)]
    answered = [image for image in found if isinstance(image, DecodedImage)]
    assert len(refused) + len(answered) == 30
    assert {error.status for error in refused} == {503}
    assert all(int((error.headers or {})["Retry-After"]) >= 1 for error in refused)
    assert 2 <= len(answered) < 30


def test_the_pace_rises_quickly_and_falls_slowly():
    async def act(workers: ImageWorkers) -> None:
        workers._adapt(3.0)
        assert workers._pace == 2.0
        workers._adapt(1.0)
        assert workers._pace == pytest.approx(1.8)
        workers._adapt(1000.0)  # one that stood still does not stop the service
        assert workers._pace == pytest.approx(1.8 * 2.5)

    with_workers(act)


def test_drawing_has_a_time_and_a_number(monkeypatch):
    monkeypatch.setattr(images, "MAX_LARGE_IMAGES", 3)
    go = threading.Event()

    async def act(workers: ImageWorkers) -> None:
        drawn = [asyncio.create_task(workers.draw(lambda: go.wait(10), "a.png")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(HTTPError, match="fewer explanations") as error:
            await workers.draw(lambda: 1, "b.png")
        assert error.value.status == 503
        with pytest.raises(HTTPError, match=r"done with a\.png within 0\.2 s"):
            await drawn[0]
        go.set()
        assert await asyncio.gather(*drawn[1:]) == [True, True]
        assert await workers.draw(lambda: 7, "c.png") == 7

    with_workers(act, decode_seconds=0.2)


def test_the_status_follows_the_error_of_the_image():
    assert image_error(ImageError("x")).status == 422
    assert image_error(TooManyPixelsError("x")).status == 413
