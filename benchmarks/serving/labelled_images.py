"""Images for the clients of the service, with the class that each response must have."""

import io

import numpy as np
from PIL import Image, ImageDraw

from glimpse.runtime.session import GlimpseSession
from glimpse_serve.models import bundled


def labelled_images() -> tuple[list[bytes], list[str]]:
    """PNG files of drawn sevens with clutter, each with the bundled hard model's class; near ties are left out."""
    session = GlimpseSession(bundled.HARD.path)
    chance = np.random.default_rng(0)
    files, labels = [], []
    for _ in range(64):
        picture = Image.new("L", (60, 60))
        pen = ImageDraw.Draw(picture)
        left, top = (int(place) for place in chance.integers(4, 36, 2))
        pen.line([(left, top), (left + 16, top), (left + 6, top + 20)], fill=255, width=3)
        for _ in range(4):
            x, y, width, height = (int(place) for place in (*chance.integers(0, 52, 2), *chance.integers(2, 8, 2)))
            pen.rectangle([x, y, x + width, y + height], fill=int(chance.integers(60, 256)))
        found = session.predict_one(np.asarray(picture)[..., None]).probabilities[-1]
        ordered = np.sort(found)
        if ordered[-1] - ordered[-2] < 0.05:
            continue  # a tie may fall to either side in a batch
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        files.append(stream.getvalue())
        labels.append(session.card.classes[int(found.argmax())])
    return files, labels
