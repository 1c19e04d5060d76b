"""Images of each format that are slow to decode, against the estimate by which the service admits them."""

import io
import time
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.serving.faults.files import scan_bomb
from benchmarks.serving.faults.sizes import Sizes
from glimpse.images.pixels import TooCostlyError, decode

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


async def decoding(sizes: Sizes) -> dict[str, Any]:
    """Processor time of decoding slow images, and the estimate from their headers: no decoder takes far longer."""
    found: dict[str, Any] = {}
    for name, content in slow_images().items():
        try:
            decode(content, max_seconds=0.0)
        except TooCostlyError as error:
            estimate = error.seconds
        taken = []
        for _ in range(sizes.decodings):
            started = time.process_time()
            decode(content)
            taken.append(time.process_time() - started)
        least = min(taken)
        found[name] = {
            "bytes": len(content),
            "estimated_seconds": estimate,
            "processor_seconds": least,
            "taken_of_estimate": least / estimate,
        }
    return found
