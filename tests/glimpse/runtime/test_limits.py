import inspect
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from glimpse.runtime.limits import LimitError, Limits, check_limits

unchecked = inspect.unwrap(check_limits)
"""Without the types that are checked at every call under pytest, and only there."""


def test_a_confidence_is_compared_in_float32_as_a_graph_does():
    assert Limits(1, 0.9).early_exit(np.array([[0.9, 0.1]], np.float32)).tolist() == [True]
    assert Limits(1, 0.9).early_exit(np.array([[0.89999, 0.1]], np.float32)).tolist() == [False]
    assert Limits(1).early_exit(np.array([[1.0, 0.0]], np.float32)).tolist() == [False]


def test_limits_that_are_left_out_are_those_of_the_model():
    assert check_limits(7, None, None, None) == Limits(7, None, None)
    assert check_limits(7, 2, 1.0, 0.5) == Limits(2, 1.0, 0.5)


def test_limits_may_be_numbers_of_any_kind():
    given: Any = (np.int64(2), np.float32(0.9), np.float64(0.5))
    found = unchecked(7, *given)
    assert found == Limits(2, float(np.float32(0.9)), 0.5)
    assert type(found.max_glimpses) is int
    half: Any = Fraction(1, 2)
    assert unchecked(7, None, half, 3) == Limits(7, 0.5, 3)


@pytest.mark.parametrize("value", [True, np.True_, 2.5, 2.0, "3", [3], np.array(3), float("nan")])
def test_a_number_of_glimpses_that_is_none_is_rejected(value):
    with pytest.raises(LimitError, match=r"expected max_glimpses from 1 to 7, .* got .*; choose one of those"):
        unchecked(7, value, None, None)


@pytest.mark.parametrize("value", [True, "0.9", [0.9], np.array(0.9), np.array([0.9, 0.8]), Decimal("0.9"), 0.5j])
def test_a_confidence_and_a_time_that_are_no_numbers_are_rejected(value):
    kind = type(value).__name__
    with pytest.raises(LimitError, match=rf"expected a confidence above 0 and up to 1, got .* \({kind}\); it is"):
        unchecked(7, None, value, None)
    with pytest.raises(LimitError, match=rf"expected more than 0 seconds, got .* \({kind}\); one glimpse"):
        unchecked(7, None, None, value)


@pytest.mark.parametrize("value", [float("nan"), np.float32("nan"), 0, -1, 10**400 * -1])
def test_a_confidence_and_a_time_out_of_their_range_are_rejected(value):
    with pytest.raises(LimitError, match="expected a confidence above 0"):
        unchecked(7, None, value, None)
    with pytest.raises(LimitError, match="expected more than 0 seconds"):
        unchecked(7, None, None, value)


def test_a_confidence_that_is_nothing_in_float32_is_rejected():
    with pytest.raises(LimitError, match="above 0 and up to 1, got 1e-60; it is the probability, in float32"):
        check_limits(7, None, 1e-60, None)
