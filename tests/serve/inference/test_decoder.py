import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from glimpse.contract.card import SIZE_POLICIES, CanvasShape
from glimpse.images.pixels import ImageError, TooCostlyError, fit
from glimpse_serve.inference.decoder import DecodeRequest, decode_image
from tests.support.service import png
from tests.support.toys import noise


def test_an_image_comes_back_as_it_is_or_on_its_canvas():
    image = noise(40, 30, 3)
    request = DecodeRequest("a.png", 10_000)
    whole = decode_image(png(image), request)
    assert (whole.height, whole.width) == (40, 30)
    np.testing.assert_array_equal(whole.pixels, image)
    fitted = decode_image(png(image), DecodeRequest("a.png", 10_000, CanvasShape(28, 28, 1)))
    assert (fitted.height, fitted.width) == (40, 30)
    np.testing.assert_array_equal(fitted.pixels, fit(image, 28, 28, 1))
    same = decode_image(png(image), DecodeRequest("a.png", 10_000, CanvasShape(*image.shape)))
    np.testing.assert_array_equal(same.pixels, image)
    squashed = decode_image(png(image), DecodeRequest("a.png", 10_000, CanvasShape(28, 20, 1, "squash")))
    np.testing.assert_array_equal(squashed.pixels, fit(image, 28, 20, 1, "squash"))


def test_the_limits_hold():
    request = DecodeRequest("a.png", 100)
    with pytest.raises(ImageError, match=r"'a\.png' announces 30 x 40 pixels"):
        decode_image(png(noise(40, 30, 3)), request)
    with pytest.raises(TooCostlyError, match=r"'a\.png' is estimated"):
        decode_image(png(noise(10, 10, 3)), replace(request, max_estimate=1e-9))


def ask(images: list[bytes], request: DecodeRequest, max_bytes: int = 2**31) -> list[tuple[dict[str, object], bytes]]:
    """Send images to the program, and return its replies."""
    sent = b"".join(request.to_line(len(image)) + image for image in images)
    command = [sys.executable, "-m", "glimpse_serve.inference.decoder", str(max_bytes)]
    ended = subprocess.run(command, input=sent, capture_output=True, check=True, timeout=60)
    assert ended.stderr == b""
    stream = io.BytesIO(ended.stdout)
    replies = []
    while line := stream.readline():
        reply = json.loads(line)
        replies.append((reply, stream.read(int(np.prod(reply.get("shape", (0,)))))))
    return replies


@pytest.mark.child
@pytest.mark.parametrize("policy", SIZE_POLICIES)
def test_the_program_replies_to_one_image_after_another_and_ends_with_its_input(policy):
    images = [noise(20, 30, 3), noise(50, 31, 3)]
    canvas = CanvasShape(28, 28, 1, policy)
    ((reply, _),) = ask([png(images[1])], DecodeRequest("x.png", 5000, max_estimate=1e-5))
    assert reply["kind"] == "cost"
    estimate = reply["estimate"]
    assert isinstance(estimate, float)
    assert 1e-5 < estimate < 1e-3
    found = ask([png(images[0]), b"none", png(images[1])], DecodeRequest("x.png", 5000, canvas, 5.0))
    assert [len(pixels) for _, pixels in found] == [784, 0, 784]
    assert found[0][0] == {"shape": [28, 28, 1], "height": 20, "width": 30}
    assert found[1][0]["kind"] == "image"
    assert "'x.png' is no image" in str(found[1][0]["error"])
    for place, image in ((0, images[0]), (2, images[1])):
        assert found[place][1] == fit(image, *canvas).tobytes()


@pytest.mark.child
def test_the_program_says_that_an_image_takes_too_much_memory():
    stream = io.BytesIO()
    Image.new("RGB", (9000, 9000)).save(stream, "PNG")
    (reply, _), (small, _) = ask(
        [stream.getvalue(), png(noise(9, 9, 3))], DecodeRequest("x.png", 2**27), max_bytes=600 * 2**20
    )
    assert "takes more memory than is allowed" in str(reply["error"])
    assert small["height"] == 9


@pytest.mark.child
def test_the_program_needs_neither_torch_nor_onnxruntime():
    program = (
        "import sys, glimpse_serve.inference.decoder; "
        "print(sorted({'torch', 'onnxruntime', 'starlette', 'uvicorn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"
