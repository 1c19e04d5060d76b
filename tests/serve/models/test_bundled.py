"""The models that come with the package: they are whole, say what they are, and read digits."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from glimpse.cli.train.recipes import find_recipe
from glimpse.contract.seal import read_seal
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.models import bundled
from glimpse_serve.models.bundled import HARD, SOFT, BundledModel
from tests.support import toys

IMAGES = 400
LARGEST = 3_000_000
"""Bytes."""


@pytest.fixture(scope="module", params=bundled.models(), ids=lambda model: model.name)
def model(request: pytest.FixtureRequest) -> BundledModel:
    found: BundledModel = request.param
    return found


@pytest.fixture(scope="module")
def session(model: BundledModel) -> GlimpseSession:
    return GlimpseSession(model.path)


def drawn(*strokes: list[tuple[int, int]], ring: tuple[int, int, int, int] | None = None) -> Any:
    """A drawn digit of the size of MNIST's, grey on a canvas of 60x60."""
    image = Image.new("L", (240, 240))
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        pen.line([(4 * x, 4 * y) for x, y in stroke], fill=255, width=12, joint="curve")
    if ring:
        pen.ellipse([4 * end for end in ring], outline=255, width=12)
    return np.asarray(image.resize((60, 60), Image.Resampling.BOX))[:, :, None]


def test_a_hard_and_a_soft_model_are_shipped():
    assert [model.name for model in bundled.models()] == ["digits-hard", "digits-soft"]
    assert [GlimpseSession(model.path).card.model for model in (HARD, SOFT)] == ["hard", "soft"]


def test_they_are_the_only_files_of_their_kind_in_the_folder():
    there = HARD.path.parent
    assert sorted(path.name for path in there.iterdir()) == ["README.md", "digits-hard.onnx", "digits-soft.onnx"]


def test_a_file_is_sealed_and_under_3_megabytes(model, session):
    content = model.path.read_bytes()
    assert len(content) < LARGEST
    assert read_seal(content) == session.sha256 == model.sha256


def test_an_unchanged_file_of_the_package_is_known_and_no_other_is(model, tmp_path, monkeypatch):
    assert bundled.is_bundled(model.path)
    copied = tmp_path / model.path.name
    copied.write_bytes(model.path.read_bytes())
    assert not bundled.is_bundled(copied)
    monkeypatch.setattr(BundledModel, "path", copied)
    assert bundled.is_bundled(copied)
    copied.write_bytes(toys.write_toy(tmp_path / "toy.onnx", toys.EPISODE).read_bytes())
    assert not bundled.is_bundled(copied)
    copied.write_bytes(b"damaged")
    assert not bundled.is_bundled(copied)
    copied.unlink()
    assert not bundled.is_bundled(copied)


def test_a_card_is_complete(model, session):
    card = session.card
    assert card.license == "MIT"
    assert card.classes == tuple("0123456789")
    assert (card.channels, card.height, card.width, card.input_type) == (1, 60, 60, "uint8")
    assert (card.precision, card.target) == ("float32", "cpu")
    assert card.test_error is not None
    assert card.test_error < 0.03
    assert card.temperature != 1
    assert len(card.budgets) > card.num_glimpses
    assert card.measured_on
    assert {"glimpse", "torch", "onnx", "python"} <= card.versions.keys()
    assert card.recipe["made_by"] == model.made_by
    assert card.recipe["data"]["dataset"] == "mnist"


def test_no_prediction_of_a_bundled_model_depends_on_its_batch(session):
    """int8 multiplies with one scale for all that is in a batch, which a service that makes batches can't have."""
    canvases = np.stack([drawn([(30, 20), (30, 40)]), drawn(ring=(20, 20, 36, 40)), drawn([(10, 10), (50, 50)])])
    together = session.run(canvases)
    for place, canvas in enumerate(canvases):
        alone = session.run(canvas[None])
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[place], atol=1e-5)


def test_the_hard_model_is_stored_in_half_and_computes_in_full():
    card = GlimpseSession(HARD.path).card
    assert (card.precision, card.recipe["weights"]) == ("float32", "float16")
    assert HARD.path.stat().st_size < 2.6 * card.parameters


def test_a_command_that_made_a_model_is_one_that_there_is(model):
    program, verb, option, recipe, *_ = shlex.split(model.made_by)
    assert (program, verb, option) == ("glimpse", "train", "--config")
    assert Path(find_recipe(recipe)).is_file()


def test_the_manual_has_the_commands_and_the_errors(model, session):
    reported = (model.path.parent / "README.md").read_text(encoding="utf-8")
    assert model.made_by in reported
    assert f"{session.card.test_error:.2%}".replace("%", " %") in reported
    assert f"{model.path.stat().st_size / 1e6:.2f} MB" in reported
    assert "MIT" in reported


def test_drawn_digits_are_classified(session):
    digits = {
        "0": drawn(ring=(22, 18, 38, 38)),
        "1": drawn([(31, 18), (29, 38)]),
        "7": drawn([(22, 20), (38, 20), (28, 39)]),
    }
    found = session.run(np.stack([*digits.values()])).probabilities[:, -1]
    assert [session.card.classes[label] for label in found.argmax(1)] == [*digits]
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_the_test_images_are_classified_as_accurately_as_the_card_states(session, mnist_root):
    from glimpse.data.datamodule import ImageData

    data = ImageData(root=str(mnist_root), **session.card.recipe["data"])
    data.setup()
    pixels, labels = (part[:IMAGES].numpy() for part in next(iter(data.test_dataloader())))
    answers = session.run(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))).probabilities[:, -1].argmax(1)
    assert len(labels) == IMAGES
    assert abs((answers != labels).mean() - session.card.test_error) < 0.02
