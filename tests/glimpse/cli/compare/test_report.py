import json
import math
from dataclasses import replace

import pytest

from glimpse.cli.compare.report import (
    COLUMNS,
    ComparedModel,
    Comparison,
    ImageAnswer,
    budget,
    comparison_table,
    table_cells,
    write_comparison,
)
from glimpse.evaluation.evaluate import ClassifierEvaluation
from glimpse.training.families import FAMILIES

EVALUATION = ClassifierEvaluation(
    images=400,
    error=0.1,
    errors={"own": [0.5, 0.1], "random": [0.5, 0.304], "centre": [0.5, 0.485], "grid": [0.3, 0.126]},
    calibration_error=0.017,
    per_class=[],
    confusion=[],
    num_glimpses=2,
    pixels_sensed=1040,
    pixels_of_image=2080,
    multiply_accumulates=21_456_000,
    parameters=7_469,
    balanced_accuracy=0.9,
    macro_f1=0.89,
    top5_accuracy=None,
    majority_class="7",
    majority_accuracy=0.11,
)
SEEING = ComparedModel(
    "gaze", "hard", "gaze.yaml", "gaze.ckpt", True, 2, 6400, 61.4, 118.6, [(1, 0.3), (2, math.nan)], EVALUATION
)
WHOLE = replace(
    SEEING,
    name="<i>net</i> & more",
    family="cnn",
    trained_now=False,
    wall_seconds=None,
    cpu_seconds=None,
    evaluation=replace(EVALUATION, error=0.2, errors={"own": [0.2]}, num_glimpses=1, pixels_sensed=2080),
)
TOLD = ImageAnswer(
    place=7, truth='<script>"', answers=["<b>cat</b>", '<script>"'], confidences=[0.912, 0.5], disputed=True
)
FOUND = Comparison("<u>images</u> & more", "glimpse compare 'a <b>' c", [SEEING, WHOLE], [TOLD], 0.124)


@pytest.fixture
def page(tmp_path) -> str:
    write_comparison(FOUND, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["comparison.json", "index.html"]
    return " ".join((tmp_path / "index.html").read_text(encoding="utf-8").split())


def test_a_row_says_what_is_known_and_no_more():
    assert table_cells(SEEING) == [
        "gaze", "10.00", "30.40", "48.50", "12.60", "1.7", "7,469", "21.46", "1,040", "0.50x", "2", "6,400", "61", "119"
    ]  # fmt: skip
    assert table_cells(WHOLE)[1:5] == ["20.00", "-", "-", "-"]
    assert table_cells(WHOLE)[-2:] == ["-", "-"]
    assert len(table_cells(SEEING)) == len(COLUMNS)


def test_the_terminals_table_is_straight():
    head, first, second = comparison_table(FOUND).splitlines()
    assert head.split()[0] == "model"
    assert len(head) == len(first) == len(second)
    assert first.index("10.00") + len("10.00") == head.index("error %") + len("error %")


def test_names_are_escaped(page):
    for text in ("<i>", "<u>", "<script>", "<b>cat"):
        assert text not in page
    assert "2 models of &lt;u&gt;images&lt;/u&gt; &amp; more" in page
    assert '<td class="wrong"><b>&lt;b&gt;cat&lt;/b&gt;</b> 91%</td>' in page
    assert '<td class="right"><b>&lt;script&gt;&quot;</b> 50%</td>' in page
    assert "<pre>glimpse compare &#x27;a &lt;b&gt;&#x27; c</pre>" in page
    assert "$" not in page


def test_the_page_says_how_sure_it_is(page):
    # sqrt(0.1 * 0.9 / 400) = 0.015
    assert "As there are 400 of them, chance alone moves the smallest error by about 1.50 points" in page
    assert "The models disagree on 12 % of the first test images" in page
    assert page.count('<tr class="best">') == 1
    assert "No log lies beside the checkpoints" in page
    assert "Trained for this page, one after another on this machine: gaze." in page


def test_equal_errors_are_equally_good(tmp_path):
    equal = replace(FOUND, entries=[SEEING, replace(SEEING, name="twin")])
    write_comparison(equal, tmp_path)
    assert (tmp_path / "index.html").read_text(encoding="utf-8").count('<tr class="best">') == 2


def test_an_explicit_map_is_shown_where_there_is_one(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "explicit-1-1.png").touch()
    write_comparison(FOUND, tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert '<td><img src="pictures/explicit-1-1.png" alt="explicit map of gaze"></td>' in page
    assert "explicit-1-2.png" not in page
    assert "takes in the whole image at once: no map of its own" in page


def test_figures_are_valid_json(page, tmp_path):
    figures = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert figures["entries"][0]["validation_errors"] == [[1, 0.3], [2, None]]
    assert figures["entries"][0]["evaluation"] == json.loads(EVALUATION.to_json())
    assert figures["entries"][1]["wall_seconds"] is None
    assert figures["views"][0]["answers"] == TOLD.answers
    assert figures["disputed"] == 0.124


def test_one_budget_and_others_are_told_apart():
    assert budget([SEEING, WHOLE]) == "One budget for all: each model was trained on 6,400 images, one seed each."
    assert budget([SEEING, replace(WHOLE, images_seen=12_800)]).startswith(
        "The budgets differ: the models were trained on 6,400 to 12,800 images"
    )

    unknown = replace(WHOLE, images_seen=None)
    for entries in ([SEEING, unknown], [unknown, unknown]):
        assert budget(entries).startswith("The number of training images of some models is unknown")
    assert table_cells(unknown)[-3] == "-"


def test_every_family_has_a_title_of_its_own():
    titles = [family.title for family in FAMILIES.values()]
    assert len({*titles}) == len(titles)
