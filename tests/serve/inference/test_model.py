from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serving.faults.rich_files import rich_files
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.errors import HTTPError
from glimpse_serve.inference.decoder import DecodedImage, DecodeRequest, decode_image
from glimpse_serve.inference.jobs import (
    ClassifyJob,
    ClassifyResult,
    ExplainJob,
    ExplainResult,
    InferJob,
    InferResult,
    TooLargeInBatch,
)
from glimpse_serve.inference.model import SMALL_PIXELS, ServedModel
from tests.support import toys
from tests.support.service import png
from tests.support.toys import noise


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ServedModel]:
    return {
        name: ServedModel(name, 1, session) for name, session in toys.sessions(tmp_path_factory.mktemp("toys")).items()
    }


@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
@pytest.mark.parametrize("limits", [(None, None), (3, None), (None, 0.45), (4, 0.5), (None, None, (0.5, -0.75))])
def test_images_in_a_batch_are_classified_as_each_alone(models, graph, limits):
    images = [noise(*shape, seed=seed) for seed, shape in enumerate([(20, 30, 1), (50, 31, 3), (8, 9, 1), (20, 30, 1)])]
    jobs = [ClassifyJob(png(image), f"image {number}", *limits) for number, image in enumerate(images)]
    model = models[graph]
    for image, result in zip(images, model.run_batch(jobs), strict=True):
        assert isinstance(result, ClassifyResult)
        expected = model.session.predict_one(
            image, max_glimpses=limits[0], confidence=limits[1], first_location=limits[2] if limits[2:] else None
        )
        np.testing.assert_allclose(result.prediction.probabilities[0], expected.probabilities, atol=1e-5)
        np.testing.assert_allclose(result.prediction.locations[0], expected.locations, atol=1e-5)
        assert result.prediction.reasons == (expected.reasons,)
        assert (result.height, result.width) == image.shape[:2]


def test_a_bad_image_fails_alone(models):
    good = png(noise(20, 30, 1))
    first, bad, large, last = models["adaptive"].run_batch(
        [
            ClassifyJob(good),
            ClassifyJob(b"none", "bad.png"),
            ClassifyJob(png(np.zeros((129, 129, 1), np.uint8))),
            ClassifyJob(good),
        ]
    )
    assert isinstance(bad, HTTPError)
    assert "'bad.png' is no image" in bad.message
    assert isinstance(large, TooLargeInBatch)
    assert SMALL_PIXELS < 129 * 129
    np.testing.assert_array_equal(first.prediction.probabilities, last.prediction.probabilities)
    assert models["adaptive"].run_batch([ClassifyJob(b"none")])[0].status == 422


@pytest.mark.parametrize("name", ["PNG, compressed texts", "PNG, empty chunks", "GIF, blocks", "JPEG, comments"])
def test_a_small_image_among_much_metadata_does_not_delay_its_batch(models, name):
    data = rich_files(60_000)[name]()
    (found,) = models["adaptive"].run_batch([ClassifyJob(data)])
    assert isinstance(found, TooLargeInBatch)
    assert decode_image(data, DecodeRequest("a", SMALL_PIXELS)).pixels.size


def test_an_image_that_was_decoded_before_is_taken_as_it_is(models):
    model = models["adaptive"]
    image = noise(100, 80, 3)
    decoded = decode_image(png(image), DecodeRequest("a", 10**5, model.canvas))
    assert isinstance(decoded, DecodedImage)
    assert decoded.pixels.shape == (20, 30, 1)
    one, other = model.run_batch([ClassifyJob(decoded), ClassifyJob(png(image))])
    np.testing.assert_array_equal(one.prediction.probabilities, other.prediction.probabilities)
    assert (one.height, one.width) == (100, 80)


def tensors(images: Any, key: Any, **more: Any) -> InferJob:
    return InferJob({"images": images, **more}, ("logits", "probabilities", "boxes", "next_state"), key, len(images))


@pytest.mark.parametrize("graph", ["adaptive", "episode"])
@pytest.mark.parametrize("confidence", [None, 0.4])
def test_tensors_of_several_requests_give_the_outputs_of_each_alone(models, graph, confidence):
    model = models[graph]
    sizes = (1, 3, 2)
    batches = [np.ascontiguousarray(noise(size, 20, 30, 1, seed=size).transpose(0, 3, 1, 2)) for size in sizes]
    more = {} if confidence is None or graph == "episode" else {"confidence": np.array(confidence, np.float32)}
    wanted = (
        "logits",
        "probabilities",
        "locations",
        "boxes",
        *(("glimpses", "next_state") if graph == "adaptive" else ()),
    )
    for outputs in (wanted, wanted[:2]):
        jobs = [InferJob({"images": batch, **more}, outputs, "key", len(batch)) for batch in batches]
        for job, result in zip(jobs, model.run_batch(jobs), strict=True):
            assert isinstance(result, InferResult)
            alone = model.session.infer(job.inputs, outputs)
            assert list(result.outputs) == list(outputs)
            for name in outputs:
                np.testing.assert_allclose(result.outputs[name], alone[name], atol=1e-5, err_msg=name)


def test_tensors_that_fail_in_the_graph_fail_alone(models):
    model = models["adaptive"]
    good = np.zeros((1, 1, 20, 30), np.uint8)
    bad = InferJob({"images": good.astype(np.float32)}, ("probabilities",), "key", 1)
    fine = InferJob({"images": good}, ("probabilities",), "key", 1)
    broken, answered = model.run_batch([bad, fine])
    assert isinstance(broken, Exception)
    assert isinstance(answered, InferResult)


@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_an_image_can_be_explained(models, graph):
    model = models[graph]
    image = noise(60, 40, 3)
    decoded = decode_image(png(image), DecodeRequest("a", 10**5, model.canvas))
    (seen,) = model.run_batch([ExplainJob(decoded, 4, 0.6)])
    assert isinstance(seen, ExplainResult)
    expected = model.session.predict_one(image, max_glimpses=4, confidence=0.6)
    np.testing.assert_allclose(seen.on_image.probabilities[0], expected.probabilities, atol=1e-5)
    assert seen.on_image.boxes is not None
    np.testing.assert_allclose(seen.on_image.boxes[0], expected.boxes, atol=1e-4)
    assert len(seen.seconds) == expected.glimpses


def test_sessions_are_kept_as_they_are(models, tmp_path: Path):
    session = GlimpseSession(toys.write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE))
    model = ServedModel("owl", 3, session)
    assert (model.name, model.version, model.session, model.card) == ("owl", 3, session, session.card)


@pytest.fixture
def spoilt(tmp_path: Path) -> ServedModel:
    session = GlimpseSession(toys.write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE))
    return ServedModel("toy", 1, toys.spoil(session))


def black_and_white() -> tuple[Any, Any]:
    black, white = noise(20, 30, 1), noise(20, 30, 1)
    black[0, 0], white[0, 0] = 0, 255
    return black, white


def test_an_image_for_which_a_model_returns_nan_fails_alone_and_is_logged(spoilt, caplog):
    black, white = black_and_white()
    first, failed, last = spoilt.run_batch([ClassifyJob(png(image)) for image in (black, white, black)])
    assert isinstance(first, ClassifyResult)
    assert isinstance(last, ClassifyResult)
    assert isinstance(failed, HTTPError)
    assert (failed.status, failed.kind) == (500, "output")
    assert "a finite result of the model 'toy', got NaN or infinity, which is the model's fault" in failed.message
    assert "toy version 1: expected finite numbers of 'probabilities' from the model" in caplog.text
    decoded = decode_image(png(white), DecodeRequest("a", 10**5, spoilt.canvas))
    assert spoilt.run_batch([ExplainJob(decoded)])[0].status == 500


@pytest.mark.parametrize(
    ("more", "status"),
    [({}, 500), ({"confidence": np.array(0.5, np.float32)}, 500), ({"state": np.zeros((1, 3), np.float32)}, 422)],
)
def test_nan_is_the_clients_fault_where_its_tensors_may_have_led_to_it(spoilt, more, status):
    black, white = (image.transpose(2, 0, 1)[None] for image in black_and_white())
    jobs = [InferJob({"images": image, **more}, ("probabilities",), "key", 1) for image in (black, white)]
    fine, failed = spoilt.run_batch(jobs)
    assert isinstance(fine, InferResult)
    assert (type(failed), failed.status) == (HTTPError, status)
