import base64
import io

import numpy as np
import pytest
from PIL import Image

from glimpse.runtime.session import GlimpseSession
from glimpse_serve.inference.decoder import DecodedImage
from glimpse_serve.inference.explanation import draw_explanation, explain_image
from glimpse_serve.inference.jobs import ExplainJob
from glimpse_serve.models import bundled
from tests.support.toys import noise


@pytest.fixture(scope="module", params=[model.name for model in bundled.models()])
def session(request: pytest.FixtureRequest) -> GlimpseSession:
    return GlimpseSession(next(model.path for model in bundled.models() if model.name == request.param))


def test_an_explanation_begins_where_it_is_told(session):
    if session.card.has_retina:
        image, first = noise(90, 60, 3), (0.5, -0.75)
        seen = explain_image(session, ExplainJob(DecodedImage(session.fit(image), 90, 60), 3, None, first))
        expected = session.predict_one(image, max_glimpses=3, first_location=first)
        np.testing.assert_allclose(seen.on_image.locations[0], expected.locations, atol=1e-5)
        np.testing.assert_allclose(seen.on_image.locations[0, 0], first, atol=1e-6)


def test_an_explanation_is_the_prediction_and_can_be_drawn(session):
    image = noise(90, 60, 3)
    job = ExplainJob(DecodedImage(session.fit(image), 90, 60), 3)
    seen = explain_image(session, job)
    expected = session.predict_one(image, max_glimpses=3)
    np.testing.assert_allclose(seen.on_image.probabilities[0], expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(seen.on_image.locations[0], expected.locations, atol=1e-5)
    assert (seen.on_image.maps is None) == (expected.maps is None)
    assert seen.on_image.reasons == (expected.reasons,)
    assert list(seen.seconds) == sorted(seen.seconds)
    kind, _, data = draw_explanation(session, image, seen).partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as drawn:
        assert len(drawn.convert("RGB").getcolors(10**6) or []) > 50
