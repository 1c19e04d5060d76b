import os

import pytest

from glimpse.contract.texts import LONGEST_NAME, LONGEST_TEXT, name_fault, text_fault, visible, visible_lines

GOOD = ("owl", "a/b", "Äpfel & <b>", "猫　犬", "می‌خواهم", "👩‍🔬", "a\u00a0b", "'quoted' \"twice\"", "\\x1b")
BAD = {
    "latin-1": os.fsdecode(b"Stra\xdfe"),
    "escape": "\x1b]0;title\x07",
    "null": "a\0b",
    "line": "two\nlines",
    "return": "a\rb",
    "separator": "a\u2028b",
    "next line": "a\x85b",
    "direction": "a\u202egpj.exe",
    "isolate": "\u2066a",
    "byte order": "\ufeffa",
    "surrogate": "\ud83d",
    "delete": "a\x7f",
}


@pytest.mark.parametrize("text", GOOD)
def test_what_people_write_is_left_as_it_is(text):
    assert visible(text) == text
    assert text_fault(text) is None
    assert name_fault(text) is None


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_no_text_is_shown_with_escapes_and_refused_in_a_card(text):
    shown = visible(text)
    assert shown.isprintable()
    shown.encode()
    assert shown.encode().decode("unicode_escape") == text
    assert text_fault(text) is not None
    assert name_fault(text) is not None


def test_the_fault_says_which_character_it_is():
    assert text_fault(os.fsdecode(b"\xe4")) == r"holds \udce4, which is no UTF-8"
    assert text_fault("a\x1b") == r"holds \x1b, a control character"


def test_a_text_is_bounded():
    assert text_fault("x" * LONGEST_TEXT) is None
    assert text_fault("x" * (LONGEST_TEXT + 1)) == "has 4,097 characters, more than 4,096"
    assert name_fault("x" * LONGEST_NAME) is None
    assert name_fault("x" * (LONGEST_NAME + 1)) == "has 257 characters, more than 256"
    assert visible("x" * 50, 10) == "xxxxxxx..."
    assert visible("x" * 10, 10) == "x" * 10


@pytest.mark.parametrize("name", ["", " ", "\u3000\u00a0"])
def test_a_name_is_not_empty(name):
    assert name_fault(name) == "is empty"


def test_lines_of_a_message_stay_lines():
    assert visible_lines("one\ntwo\x1b[2J\rthree") == "one\ntwo\\x1b[2J\\rthree"
