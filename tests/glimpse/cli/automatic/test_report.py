"""The page of a choice."""

from glimpse.cli.automatic.report import page

FIGURES = {
    "images": "grey images <of> 3 pixels",
    "measure": "balanced error",
    "chosen": "focus",
    "model": "runs/a&b/last.ckpt",
    "multiply_accumulates": 123_456_789,
    "test_error": 0.1234,
    "test_balanced_accuracy": 0.8,
    "majority_test_error": 0.5,
    "pixel_regression_test_error": 0.4,
    "pixel_regression_test_balanced_accuracy": 0.55,
    "trials": [
        {
            "name": "focus",
            "reason": "a glance",
            "epochs": 7,
            "seconds": 61.4,
            "validation_error": 0.1,
            "validation_balanced_error": 0.2,
        }
    ],
    "looking": {
        "sentence": "looking earns 3.0 points",
        "errors": {"own": [0.2, 0.1], "random": [0.2, 0.21], "centre": [0.2, 0.19]},
        "multiply_accumulates": [1_000_000, 3_000_000],
        "everywhere": {"windows": 100, "error": 0.055, "images": 1234, "cost": 201_000_000},
    },
}


def test_the_page_has_every_figure_and_no_markup_of_the_user() -> None:
    text = page(FIGURES)
    for shown in ("12.34", "80.0", "123 million", "grey images &lt;of&gt; 3 pixels", "runs/a&amp;b/last.ckpt", "61"):
        assert shown in text
    assert "looking earns 3.0 points" in text
    assert "<td>random windows</td><td>20.00</td><td>21.00</td>" in text
    assert "Balanced error on the validation images" in text
    assert "at all 100 places: 5.50 %, 201 million multiply-accumulates (1,234 validation images)" in text


def test_a_model_that_does_not_look_has_no_such_section() -> None:
    assert "<h2>Looking</h2>" not in page(FIGURES | {"looking": None})
