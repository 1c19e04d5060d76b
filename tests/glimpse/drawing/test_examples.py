import numpy as np
import pytest

from glimpse.drawing.examples import IMAGES_SHOWN, MOST_CLASSES, ClassExamples, draw_examples


def example(name: str, value: int, count: int = 3, channels: int = 3) -> ClassExamples:
    return ClassExamples(name, 1234, [np.full((20, 30, channels), value, np.uint8)] * count)


def pixels(classes: list[ClassExamples]) -> np.ndarray:
    return np.asarray(draw_examples(classes)).astype(int)


def shares(sheet: np.ndarray, value: int) -> int:
    return int((sheet == value).all(axis=2).sum())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_class_is_a_row_of_its_images(channels):
    sheet = pixels([example("cat", 201, 2, channels), example("dog", 99, 4, channels)])
    assert shares(sheet, 99) == 2 * shares(sheet, 201) > 0
    first, last = (np.flatnonzero((sheet == value).all(axis=2).any(axis=1)) for value in (201, 99))
    assert first.max() < last.min()


def test_no_more_images_than_fit_are_shown():
    few, many = pixels([example("cat", 201, IMAGES_SHOWN)]), pixels([example("cat", 201, IMAGES_SHOWN + 9)])
    assert np.array_equal(few, many)


def test_many_classes_stand_in_columns_and_the_rest_is_counted():
    one, two = draw_examples([example("a", 9)] * 20), draw_examples([example("a", 9)] * 21)
    assert two.width > 1.8 * one.width
    assert two.height < one.height
    most, more = (draw_examples([example("a", 9)] * (MOST_CLASSES + rest)) for rest in (0, 5))
    assert more.width == most.width
    assert more.height > most.height


def test_names_and_images_may_be_of_any_kind():
    odd = ClassExamples("a name that is longer than there is room \x1b[31m 猫", 0, [])
    tall = ClassExamples("", 1, [np.zeros((300, 2, 1), np.uint8), np.zeros((1, 1, 3), np.uint8)])
    assert draw_examples([odd, tall]).height > 0
