import numpy as np
import pytest
import torch
from PIL import Image

from glimpse.cli.compare.pictures import choose_images, classify_images, draw_path, draw_pictures
from glimpse.cli.compare.report import ComparedModel, Comparison
from glimpse.data.datamodule import ImageData
from glimpse.evaluation.evaluate import ClassifierEvaluation
from glimpse.evaluation.maps import implicit_maps
from glimpse.models.observer import Observer
from glimpse.training.families.hard import HardAttentionTraining
from glimpse.training.families.whole_image import ConvolutionalTraining

HEIGHT, WIDTH = 24, 32


@pytest.mark.parametrize(
    ("disputed", "count", "chosen"),
    [
        ([5, 7, 9], 4, [0, 1, 5, 7]),
        ([0, 1, 8], 4, [0, 1, 2, 8]),  # the first ones are taken anyway
        ([], 4, [0, 1, 2, 3]),
        ([9], 5, [0, 1, 2, 3, 9]),
        ([3], 1, [0]),
        ([], 20, list(range(10))),
    ],
)
def test_half_of_the_images_are_the_first_and_half_are_disputed(disputed, count, chosen):
    assert choose_images([place in disputed for place in range(10)], count) == chosen


@pytest.fixture(scope="module")
def data() -> ImageData:
    return ImageData("digits", canvas_height=HEIGHT, canvas_width=WIDTH, num_pieces=2)


@pytest.fixture(scope="module")
def observers(data) -> list[Observer]:
    torch.manual_seed(3)
    hard = HardAttentionTraining(
        data.classes, data.image_shape, num_glimpses=3, glimpse_size=4, num_scales=2, hidden=16
    )
    plain = ConvolutionalTraining(data.classes, data.image_shape, widths=[4, 8], depths=[1, 1])
    return [hard.eval().observer, plain.eval().observer]


def test_all_models_look_at_the_same_images(data, observers):
    views, disputed = classify_images(observers, data, 3)
    images, labels = data.test_dataloader().dataset[0]
    with torch.no_grad():
        beliefs = [observer(images).logits[:, -1].softmax(1) for observer in observers]
    assert disputed == pytest.approx(float((beliefs[0].argmax(1) != beliefs[1].argmax(1)).float().mean()))
    assert [view.answer.place for view in views][:2] == [0, 1]
    for view in views:
        place = view.answer.place
        assert np.array_equal(view.image, images[place].permute(1, 2, 0).numpy())
        assert view.answer.truth == data.classes[int(labels[place])]
        assert view.answer.answers == [data.classes[int(belief[place].argmax())] for belief in beliefs]
        assert view.answer.confidences == pytest.approx([float(belief[place].max()) for belief in beliefs], abs=1e-4)
        assert view.answer.disputed == (len(set(view.answer.answers)) == 2)
        assert view.explicit[0] is not None
        assert view.explicit[1] is None
        assert view.scanpaths[1] is None
        for observer, belief, found in zip(observers, beliefs, view.implicit, strict=True):
            alone = implicit_maps(observer, images[place : place + 1], belief[place].argmax().unsqueeze(0))
            np.testing.assert_allclose(found, alone[0].numpy(), rtol=1e-3, atol=1e-7)


def entry(name: str, errors: list[tuple[int, float]]) -> ComparedModel:
    evaluation = ClassifierEvaluation(9, 0.5, {"own": [0.5]}, 0.1, [], [], 1, 9, 9, 9, 9, 0.5, 0.4, None, "cat", 0.3)
    return ComparedModel(name, "cnn", name, f"{name}.ckpt", True, len(errors), 64, None, None, errors, evaluation)


def test_pictures_are_drawn_of_what_is_known(data, observers, tmp_path):
    views, disputed = classify_images(observers, data, 2)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "image-9.png").touch()
    answers = [view.answer for view in views]
    unknown = Comparison("digits", "", [entry("a", []), entry("b", [(1, float("nan"))])], answers, disputed)
    draw_pictures(unknown, views, tmp_path)
    drawn = {file.name for file in (tmp_path / "pictures").iterdir()}
    assert drawn == {
        *(f"{kind}-{row}{column}.png" for row in (1, 2) for kind, column in PANELS),
        "legend.png",
    }
    with Image.open(tmp_path / "pictures" / "implicit-1-2.png") as picture:
        assert picture.size == (288, 216), "an image of 32x24 pixels keeps its shape"
    lengths = Comparison("digits", "", [entry("a", [(1, 0.5)]), entry("b", [(1, 0.4), (2, 0.3)])], answers, disputed)
    draw_pictures(lengths, views, tmp_path)
    assert (tmp_path / "pictures" / "learning-curves.png").is_file()


PANELS = (("image", ""), ("explicit", "-1"), ("implicit", "-1"), ("implicit", "-2"))


def test_a_path_is_drawn_where_the_fixations_are():
    panel = Image.new("RGB", (200, 100))
    draw_path(panel, np.array([[-0.5, 0.0], [0.5, 0.0]], np.float32))
    pixels = np.asarray(panel).astype(int)
    assert pixels[50, 50, 2] > pixels[50, 50, 0], "the first is blue"
    assert pixels[50, 150, 0] > pixels[50, 150, 2], "the last is amber"
    assert tuple(pixels[50, 100]) == (255, 255, 255)
    assert not pixels[:30].any()
    single = Image.new("RGB", (20, 20))
    draw_path(single, np.zeros((1, 2), np.float32))
    assert np.asarray(single).any()
