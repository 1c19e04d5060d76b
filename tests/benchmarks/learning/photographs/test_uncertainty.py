"""Standard errors of figures on images that come in groups."""

import math

import numpy as np
import pytest

from benchmarks.learning.photographs.uncertainty import standard_error


def test_a_standard_error_of_single_images_is_the_binomial_one():
    right = (np.arange(400) % 5 > 0).astype(float)
    labels = np.arange(400) % 2
    expected = math.sqrt(0.8 * 0.2 / 400)
    alone = [str(number) for number in range(400)]
    assert standard_error(right, labels, alone, balanced=False) == pytest.approx(expected, rel=0.08)
    assert standard_error(right, labels, alone, balanced=True) == pytest.approx(expected, rel=0.08)


def test_a_standard_error_of_equal_groups_is_that_of_their_number():
    right = np.repeat((np.arange(40) % 5 > 0).astype(float), 10)
    groups = [str(number // 10) for number in range(400)]
    found = standard_error(right, np.zeros(400, dtype=np.int64), groups, balanced=False)
    assert found == pytest.approx(math.sqrt(0.8 * 0.2 / 40), rel=0.08)
