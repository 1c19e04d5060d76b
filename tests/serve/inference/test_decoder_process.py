import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from glimpse.contract.card import CanvasShape
from glimpse.images.pixels import ImageError, TooCostlyError, TooManyPixelsError, fit
from glimpse_serve.inference.decoder import DecodeRequest
from glimpse_serve.inference.decoder_process import DecoderProcess
from tests.support.service import png
from tests.support.toys import noise

pytestmark = pytest.mark.child

REQUEST = DecodeRequest("a.png", 2**24, CanvasShape(28, 28, 1), 30.0)
SLOW = b"P3 2000 2000 255\n" + b"1 " * (3 * 2000 * 2000)
"""Takes Pillow some four seconds."""


@pytest.fixture
def decoder() -> Iterator[DecoderProcess]:
    made = DecoderProcess(2**24)
    yield made
    made.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_is_started_when_it_is_needed_and_decodes_one_image_after_another(decoder):
    assert decoder.pid is None
    pids: set[int | None] = set()
    for seed in range(3):
        image = noise(200, 300, 3, seed=seed)
        decoded = decoder.decode(png(image), REQUEST, threading.Event())
        np.testing.assert_array_equal(decoded.pixels, fit(image, 28, 28, 1))
        assert (decoded.height, decoded.width) == (200, 300)
        pids.add(decoder.pid)
    assert len(pids) == 1


def test_errors_of_images_are_those_of_decoding(decoder):
    with pytest.raises(ImageError, match=r"'a\.png' is no image"):
        decoder.decode(b"none" * 1000, REQUEST, threading.Event())
    with pytest.raises(TooManyPixelsError, match="300 x 200 pixels"):
        decoder.decode(png(noise(200, 300, 3)), DecodeRequest("a.png", 100), threading.Event())
    with pytest.raises(TooCostlyError, match=r"'a\.png' is estimated to take") as error:
        decoder.decode(png(noise(200, 300, 3)), replace(REQUEST, max_estimate=1e-4), threading.Event())
    assert error.value.seconds > 1e-4
    assert decoder.decode(png(noise(9, 9, 3)), REQUEST, threading.Event()).height == 9


def test_it_is_ended_in_the_middle_of_an_image_and_replaced(decoder):
    decoder.decode(png(noise(9, 9, 3)), REQUEST, threading.Event())
    first = decoder.pid
    stop = threading.Event()

    def end() -> None:
        stop.set()
        decoder.end()

    timer = threading.Timer(0.5, end)
    timer.start()
    with pytest.raises(ImageError, match="ended its decoder"):
        decoder.decode(SLOW, REQUEST, stop)
    assert not alive(first)
    assert decoder.pid is None
    assert decoder.decode(png(noise(9, 9, 3)), REQUEST, threading.Event()).height == 9
    assert decoder.pid != first


def test_ending_does_nothing_between_two_images(decoder):
    decoder.decode(png(noise(9, 9, 3)), REQUEST, threading.Event())
    first = decoder.pid
    decoder.end()
    decoder.decode(png(noise(9, 9, 3)), REQUEST, threading.Event())
    assert decoder.pid == first


def test_an_image_that_is_not_needed_any_more_starts_nothing(decoder):
    stop = threading.Event()
    stop.set()
    with pytest.raises(ImageError, match="not needed"):
        decoder.decode(SLOW, REQUEST, stop)
    assert decoder.pid is None


def test_the_processor_time_of_an_image_is_bounded(decoder):
    with pytest.raises(ImageError, match=rf"ended its decoder \(status -{int(signal.SIGXCPU)}\)"):
        decoder.decode(SLOW, DecodeRequest("a.ppm", 2**24, None, 0.2), threading.Event())
    assert decoder.decode(png(noise(9, 9, 3)), REQUEST, threading.Event()).height == 9


def test_a_process_that_died_is_replaced(decoder):
    decoder.decode(png(noise(9, 9, 3)), REQUEST, threading.Event())
    os.kill(decoder.pid, signal.SIGKILL)
    while decoder.pid is not None:
        time.sleep(0.01)
    assert decoder.decode(png(noise(9, 9, 3)), REQUEST, threading.Event()).height == 9


def test_closing_ends_it_for_good(decoder):
    decoder.decode(png(noise(9, 9, 3)), REQUEST, threading.Event())
    pid = decoder.pid
    decoder.close()
    assert not alive(pid)
    with pytest.raises(ImageError, match="not needed"):
        decoder.decode(png(noise(9, 9, 3)), REQUEST, threading.Event())


def test_it_ends_when_the_service_dies():
    program = """
import threading, time
from glimpse_serve.inference.decoder import DecodeRequest
from glimpse_serve.inference.decoder_process import DecoderProcess
decoder = DecoderProcess(2**20)
decoder.decode(b"P5 2 2 255\\n1234", DecodeRequest("a", 99), threading.Event())
print(decoder.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        pid = int(service.stdout.readline())
        assert alive(pid)
        service.kill()
    deadline = time.monotonic() + 30
    while alive(pid) and not zombie(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid) or zombie(pid)


def zombie(pid: int) -> bool:
    """Whether a process has ended, and nobody has asked for its status yet."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip().startswith("Z") or not state.strip()
