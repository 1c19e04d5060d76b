import re

import numpy as np
from PIL import Image

from glimpse.runtime.session import GlimpseSession


def test_right_answers_come_before_wrong_ones_and_are_what_the_exported_file_says(demo):
    session = GlimpseSession(demo.folder / "demo" / "model.onnx")
    shown = re.findall(
        r'<figure class="(\w+)"><a href="scanpaths/(\d\d-(\d))\.png">.*?<b>(\d)</b>, (\d+)% sure', demo.page
    )
    assert [kind for kind, *_ in shown] == ["right"] * 6 + ["wrong"] * 4
    for kind, name, truth, answer, confidence in shown:
        assert (answer == truth) == (kind == "right")
        pixels = np.asarray(Image.open(demo.folder / "demo" / "images" / f"{name}.png"))
        beliefs = session.run(pixels[None, :, :, None]).probabilities[0, -1]
        assert session.card.classes[int(beliefs.argmax())] == answer
        assert f"{beliefs.max():.0%}" == f"{confidence}%"
