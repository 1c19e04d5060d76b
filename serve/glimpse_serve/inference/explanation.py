"""Explanations: a prediction glimpse by glimpse, with times, and a drawing of it. Blocking: call it in a thread."""

import base64
import io

import numpy as np
import numpy.typing as npt

from glimpse.drawing import view
from glimpse.runtime.prediction import from_glances
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.inference.jobs import ExplainJob, ExplainResult


def explain_image(session: GlimpseSession, job: ExplainJob) -> ExplainResult:
    """Classify an image glimpse by glimpse, and measure when each prediction was ready.

    Args:
        session: The model.
        job: The image and its limits.
    """
    canvas = job.canvas
    sizes = [(canvas.height, canvas.width)]
    first = session.onto_canvas(job.first_location, sizes)
    glances = list(
        session.scan(canvas.pixels, max_glimpses=job.max_glimpses, confidence=job.confidence, first_location=first)
    )
    on_canvas = from_glances(glances)
    on_image = session.onto_images(on_canvas, sizes)
    return ExplainResult(on_canvas, on_image, tuple(glance.seconds for glance in glances))


def draw_explanation(
    session: GlimpseSession, image: npt.NDArray[np.uint8], result: ExplainResult, prefer_maps: bool = False
) -> str:
    """Draw a prediction onto its image, as a PNG in a ``data:`` URL.

    Args:
        session: The model.
        image: (height, width, channels) The decoded image.
        result: The prediction.
        prefer_maps: Whether the maps of a model with boxes and maps are drawn, in place of the scanpath.
    """
    seen = view.view_of(session, image, view.FramedPrediction(result.on_canvas, result.on_image))
    drawn = view.draw(session, seen, prefer_maps=prefer_maps)
    stream = io.BytesIO()
    drawn.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
