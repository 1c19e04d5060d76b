"""Images that are slow to decode, or nearly all metadata, against the estimate by which the service admits them."""

import contextlib
import io
import time
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.serving.faults.files import scan_bomb
from benchmarks.serving.faults.rich_files import rich_files
from benchmarks.serving.faults.sizes import Sizes
from glimpse.images.pixels import ImageError, TooCostlyError, decode

SIDE = 700


def slow_images() -> dict[str, bytes]:
    """Return files of noise, which compresses badly, and of forms whose decoders are slow."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    picture = Image.fromarray(noise)
    forms: dict[str, tuple[str, Image.Image, dict[str, Any]]] = {
        "JPEG, best quality": ("JPEG", picture, {"quality": 100, "subsampling": 0}),
        "JPEG, progressive": ("JPEG", picture, {"progressive": True}),
        "PNG": ("PNG", picture, {}),
        "GIF": ("GIF", picture.convert("P"), {}),
        "WebP, lossless": ("WEBP", picture, {"lossless": True}),
        "WebP": ("WEBP", picture, {}),
        "BMP": ("BMP", picture, {}),
        "TIFF, LZW": ("TIFF", picture, {"compression": "tiff_lzw"}),
    }
    files = {"JPEG with 90 scans more": scan_bomb(SIDE, 90)}
    for name, (file_format, image, options) in forms.items():
        stream = io.BytesIO()
        image.save(stream, file_format, **options)
        files[name] = stream.getvalue()
    files["PPM in words"] = b"P3 200 200 255\n" + b"1 " * (3 * 200 * 200)
    files["PPM with a largest value of 7"] = b"P6 300 300 7\n" + bytes(3 * 300 * 300)
    return files


def estimate(content: bytes) -> float:
    """Return the estimate of a file's processor time, 0 for one that is refused before it."""
    seconds = 0.0
    for _ in range(2):  # from its marks, and from its header
        try:
            decode(content, max_seconds=seconds)
        except TooCostlyError as error:
            seconds = error.seconds
        except ImageError:
            break
    return seconds


def spent(content: bytes) -> float:
    """Decode a file, and return the processor time."""
    started = time.process_time()
    with contextlib.suppress(ImageError):
        decode(content)
    return time.process_time() - started


async def decoding(sizes: Sizes) -> dict[str, Any]:
    """Processor time of decoding slow images, and the estimate from their headers: no decoder takes far longer."""
    found: dict[str, Any] = {}
    for name, content in slow_images().items():
        estimated, least = estimate(content), min(spent(content) for _ in range(sizes.decodings))
        found[name] = {
            "bytes": len(content),
            "estimated_seconds": estimated,
            "processor_seconds": least,
            "taken_of_estimate": least / estimated,
        }
    return found


async def metadata(sizes: Sizes) -> dict[str, Any]:
    """Processor time of files that are nearly all metadata: refused at once, or within about twice the estimate."""
    refused, taken, refusing = 0, {}, 0.0
    for name, make in rich_files(sizes.rich_bytes).items():
        content = make()
        estimated, least = estimate(content), min(spent(content) for _ in range(sizes.decodings))
        if estimated:
            taken[name] = least / estimated
        else:
            refused += 1
            refusing = max(refusing, least)
    worst = max(taken, key=lambda name: taken[name])
    return {
        "files": refused + len(taken),
        "refused_at_once": refused,
        "slowest_refusal_processor_seconds": refusing,
        "most_taken_of_estimate": taken[worst],
        "by": worst,
    }
