"""Over 5,000 damaged images, made of good ones: each is answered or refused with a sentence, and disturbs nobody."""

import io
import json
import random
import socket
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pytest
from PIL import Image

from glimpse_serve.settings import Settings
from tests.support.service import Running, png, running, toy_files
from tests.support.toys import noise

MUTANTS = 260
"""Of each good image."""


def saved(picture: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def good_images() -> dict[str, bytes]:
    """Small images of every format and mode that is taken."""
    colours = Image.fromarray(noise(21, 33, 3))
    grey = colours.convert("L")
    deep = Image.fromarray((np.arange(21 * 33, dtype=np.uint32).reshape(21, 33) * 90).astype(np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "png": saved(colours, "PNG"),
        "png grey": saved(grey, "PNG"),
        "png 16 bit": saved(deep, "PNG"),
        "png alpha": saved(colours.convert("RGBA"), "PNG"),
        "png palette": saved(colours.quantize(16), "PNG", transparency=3),
        "png 1 bit": saved(grey.convert("1"), "PNG"),
        "jpeg": saved(colours, "JPEG"),
        "jpeg progressive": saved(colours, "JPEG", progressive=True),
        "jpeg turned": saved(colours, "JPEG", exif=turned),
        "jpeg cmyk": saved(colours.convert("CMYK"), "JPEG"),
        "gif": saved(colours.quantize(32), "GIF"),
        "gif moving": saved(colours.quantize(32), "GIF", save_all=True, append_images=[grey.quantize(8)]),
        "bmp": saved(colours, "BMP"),
        "tiff": saved(colours, "TIFF"),
        "tiff lzw": saved(colours, "TIFF", compression="tiff_lzw"),
        "tiff 16 bit": saved(deep, "TIFF"),
        "webp": saved(colours, "WEBP"),
        "webp lossless": saved(colours.convert("RGBA"), "WEBP", lossless=True),
        "ppm": saved(colours, "PPM"),
        "pgm": saved(grey, "PPM"),
    }


def mutants(content: bytes, others: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """Damaged forms of an image."""
    size = len(content)
    for _ in range(MUTANTS // 10):
        yield content[: chance.randrange(size)]
        yield content[chance.randrange(1, size) :]
        for flips in (1, 4, 32):
            damaged = bytearray(content)
            for _ in range(flips):
                damaged[chance.randrange(size)] ^= 1 << chance.randrange(8)
            yield bytes(damaged)
        # Lengths, sizes and offsets stand near the beginning.
        head = bytearray(content)
        place = chance.randrange(min(size - 4, 64))
        head[place : place + 4] = struct.pack(
            chance.choice("<>") + "I", chance.choice([0, 1, 2**16, 2**31 - 1, 2**32 - 1])
        )
        yield bytes(head)
        first, last = sorted(chance.randrange(size) for _ in range(2))
        yield content[:first] + content[last:]
        yield content[:last] + content[first:]
        yield content[:first] + bytes(chance.randrange(256) for _ in range(chance.randrange(1, 50))) + content[first:]
        yield content[:first] + chance.choice(others)[-(size - first) :]


def png_of(width: int, height: int, depth: int, colour: int, pixels: bytes) -> bytes:
    """A PNG with a header that says what it likes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def hand_made() -> list[bytes]:
    """Bombs, impossible headers, and what is no image at all."""
    zeros = zlib.compress(bytes(2**22), 9)
    bombs = [
        png_of(width, height, 8, 0, zeros) for width, height in ((60000, 60000), (2**31 - 1, 1), (2000, 2000), (0, 5))
    ]
    strange = [png_of(5, 5, depth, colour, zeros[:200]) for depth in (0, 3, 8, 16, 99) for colour in (0, 1, 3, 6, 200)]
    others = [
        b"\0",
        b"\0" * 1000,
        b"\xff" * 1000,
        b"GIF89a",
        b"\xff\xd8\xff",
        b"BM",
        b"P6 9999999 9999999 255\n",
        b"P5 -1 3 255\n",
        b"II*\0\xff\xff\xff\xff",
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.7",
        b"<html>",
        b"{}",
        b"\x80\x04\x95pickle",
        b"PK\x03\x04",
        b"\x1f\x8b\x08\0",
        "ünïcode".encode(),
        b"P6\n3 3\n70000\n" + bytes(27),
    ]
    return [*bombs, *strange, *others]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(Settings(models=toy_files(tmp_path_factory.mktemp("models")), max_pixels=2**21)) as made:
        yield made


class Line:
    """One connection that is kept, over which requests go one after another."""

    def __init__(self, service: Running) -> None:
        self._socket = socket.create_connection((service.host, service.port), 20)
        self._stream = self._socket.makefile("rb")

    def request(self, path: str, body: bytes) -> tuple[int, bytes]:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/x\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        status = int(self._stream.readline().split()[1])
        length = 0
        while (line := self._stream.readline()) != b"\r\n":
            assert line, "the connection was closed"
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        return status, self._stream.read(length)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()


def test_all_good_images_are_answered(service):
    with Line(service) as line:
        for name, content in good_images().items():
            status, body = line.request("/v1/classify", content)
            assert status == 200, (name, body)
            width, height = (21, 33) if name == "jpeg turned" else (33, 21)
            assert (json.loads(body)["width"], json.loads(body)["height"]) == (width, height), name


@pytest.mark.slow
def test_thousands_of_damaged_images_are_answered_or_refused_with_a_sentence_and_disturb_nobody(service):
    chance = random.Random(6)
    good = good_images()
    corpus = [*hand_made()]
    for content in good.values():
        corpus += mutants(content, list(good.values()), chance)
    assert len(corpus) >= 5000
    beside = [png(noise(20, 30, 1, seed=seed)) for seed in range(8)]
    with Line(service) as line:
        expected = [json.loads(line.request("/v1/classify", image)[1]) for image in beside]
    over = threading.Event()
    wrong: list[Any] = []
    asked_beside = Counter[str]()

    def look_beside() -> None:
        """Good images between the damaged ones, and in one batch with them."""
        number = 0
        with Line(service) as line:
            while not over.is_set():
                status, body = line.request("/v1/classify", beside[number % 8])
                answer = json.loads(body)
                right = expected[number % 8]
                close = status == 200 and all(
                    abs(answer["probabilities"][name] - right["probabilities"][name]) < 1e-4
                    for name in right["probabilities"]
                )
                if not close or answer["class"] != right["class"]:
                    wrong.append((status, answer))
                asked_beside["good"] += 1
                number += 1

    statuses = Counter[int]()

    def send(part: list[bytes]) -> None:
        with Line(service) as line:
            for content in part:
                status, body = line.request("/v1/classify", content)
                statuses[status] += 1
                answer = json.loads(body)
                is_error = 400 <= status < 500 and list(answer) == ["error"] and len(answer["error"]) > 20
                if status != 200 and not is_error:
                    wrong.append((status, answer, content[:40]))

    observer = threading.Thread(target=look_beside)
    senders = [threading.Thread(target=send, args=(corpus[start::4],)) for start in range(4)]
    for thread in (observer, *senders):
        thread.start()
    for thread in senders:
        thread.join()
    over.set()
    observer.join()
    assert wrong == []
    assert sum(statuses.values()) == len(corpus)
    assert statuses[422] > 2000
    assert statuses[413] > 0
    assert asked_beside["good"] > 100
