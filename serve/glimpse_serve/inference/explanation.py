"""Watching a model look: each glimpse by itself, its time, and a picture of it all. Blocking; for threads."""

import base64
import io

import numpy as np
import numpy.typing as npt

from glimpse.drawing import view
from glimpse.runtime.prediction import from_glances
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.inference.jobs import ExplainJob, ExplainResult


def explain_image(session: GlimpseSession, job: ExplainJob) -> ExplainResult:
    """Have a model look at an image glimpse by glimpse.

    Args:
        session: The model.
        job: The image and the limits.
    """
    canvas = job.canvas
    glances = list(session.scan(canvas.pixels, max_glimpses=job.max_glimpses, confidence=job.confidence))
    found = from_glances(glances)
    on_image = session.onto_images(found, [(canvas.height, canvas.width)])
    return ExplainResult(found, on_image, tuple(glance.seconds for glance in glances))


def picture(session: GlimpseSession, image: npt.NDArray[np.uint8], seen: ExplainResult) -> str:
    """Draw how an answer came about, as a PNG in a ``data:`` address.

    Args:
        session: The model.
        image: As it was decoded.
        seen: What was seen.
    """
    drawn = view.draw(session, view.view_of(session, image, view.FramedPrediction(seen.on_canvas, seen.on_image)))
    stream = io.BytesIO()
    drawn.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
