from pathlib import Path

import numpy as np

from glimpse.data.folder.grouping import Groups
from glimpse.data.folder.near_duplicates import Pairs
from glimpse.data.folder.report import count_note, data_page, duplicate_notes, left_out_notes, some_of
from glimpse.data.folder.tree import Tree

ROOT = Path("photos")
FILES = [ROOT / name for name in ("a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png")]
PARTS: dict[str, dict[str, list[Path]]] = {
    "train": {"a": FILES[:2], "b": FILES[3:4]},
    "validation": {"a": FILES[2:3], "b": FILES[4:]},
    "test": {"a": [], "b": []},
}


def test_five_texts_are_named_and_the_others_counted():
    assert some_of("abcde", ", ") == "a, b, c, d, e"
    assert some_of("abcdefg", "; ") == "a; b; c; d; e; and 2 more"


def test_images_are_counted():
    note = count_note({"train": PARTS["train"], "validation": PARTS["validation"]})
    assert note == "2 classes; images: 3 in the train part (1 of b to 2 of a), 2 in the validation part (1 a class)"


def test_each_reason_is_told_once_with_an_example():
    tree = Tree(ROOT, ROOT, {}, {ROOT / "a.txt": "no image", ROOT / "b\n.txt": "no image", ROOT / "c": "a link"})
    assert left_out_notes(tree) == [
        "left out: 2 x no image, such as photos/a.txt",
        "left out: 1 x a link, such as photos/c",
    ]


def test_near_duplicates_across_parts_and_classes_are_told_with_examples():
    pairs = Pairs(np.array([0, 0, 1]), np.array([1, 2, 3]))
    notes = duplicate_notes(PARTS, Groups(ROOT, FILES, {}), ROOT, FILES, pairs)
    assert len(notes) == 2
    assert notes[0].startswith("1 pairs of near-duplicates lie in different parts, such as a/1.png and a/3.png: where")
    assert notes[1].startswith("1 pairs of near-duplicates have different classes, such as a/2.png and b/1.png: either")


def test_files_that_were_left_out_are_no_near_duplicates():
    pairs = Pairs(np.array([0]), np.array([1]))
    assert duplicate_notes({"train": {"a": FILES[:1]}}, Groups(ROOT, FILES, {}), ROOT, FILES, pairs) == []


def test_a_page_has_counts_sizes_and_notes():
    page = data_page(PARTS, np.array([[10, 20], [30, 40], [20, 25]]), ["a note", "another\nnote"])
    assert "| class | train | validation | test | all |" in page
    assert "| a | 2 | 1 | 0 | 3 |" in page
    assert "| **all** | 3 | 2 | 0 | 5 |" in page
    assert "| height | 10 | 20 | 30 |" in page
    assert "| width | 20 | 25 | 40 |" in page
    assert page.endswith("- a note\n- another\\nnote\n")


def test_a_class_may_be_called_anything():
    parts = {"train": {"a|b": FILES[:1], "\u202ered": FILES[1:]}}
    page = data_page(parts, np.array([[1, 1]]), [])
    assert "| a\\|b | 1 | 1 |" in page
    assert "\u202e" not in page
