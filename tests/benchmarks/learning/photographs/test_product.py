"""The figures of the product: groups of its test images, and a choice that does not look."""

from benchmarks.learning.photographs import product
from benchmarks.learning.photographs.product import groups_of_test
from benchmarks.learning.photographs.sets import SETS, make_up
from glimpse.data.datamodule import ImageData


def test_groups_are_those_of_the_test_images_in_their_order(tmp_path):
    folder = make_up(SETS["boards"], tmp_path)
    data = ImageData("folder", str(folder), image_height=32, image_width=32, channels=1)
    groups = groups_of_test(data)
    assert len(groups) == len(data.source.test) == 30
    classes = {name.split("/")[1] for name in groups}
    assert classes == set(SETS["boards"].classes)
    assert [data.classes.index(name.split("/")[1]) for name in groups] == data.source.test.labels.tolist()


def test_a_choice_without_any_model_that_looks_is_said(tmp_path):
    choice = {"chosen": "cnn", "trials": [{"name": "cnn"}]}
    found = product.looking_of(choice, tmp_path, tmp_path, [], SETS["signs"])
    assert found == {"of": None, "sentences": ["the choice is cnn, and no model that looks was tried"]}
