"""The choice: its options, its order, and one small folder from beginning to end."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from glimpse.cli.automatic.candidates import Contender
from glimpse.cli.automatic.command import DECODED, MINUTES, has_room, main, parse_options, with_cache
from glimpse.cli.usage import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of noise that differ in brightness."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(40):
            pixels = generator.integers(0, 120, (32, 32), dtype=np.uint8) + np.uint8(120 * label)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def test_options_of_the_data_and_the_seed_go_to_every_training(tmp_path: Path) -> None:
    found = parse_options(
        tmp_path, ["--minutes", "3", "--data.group", "x", "--seed=4", "--output", str(tmp_path / "run")]
    )
    assert (found.minutes, found.output) == (3.0, tmp_path / "run")
    assert found.options == (f"--data.root={tmp_path}", "--data.group", "x", "--seed=4")
    assert parse_options(tmp_path, []).minutes == MINUTES


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--trainer.max_epochs", "3"], "--trainer.max_epochs: expected --minutes, .* add --config or --model"),
        (["--minutes", "0"], "--minutes: expected a number above 0, got 0"),
        (["--minutes", "soon"], "--minutes: expected a number above 0, got soon"),
    ],
)
def test_other_options_are_refused(tmp_path: Path, options: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse_options(tmp_path, options)


def test_decoded_images_are_kept_in_the_runs_folder_unless_the_user_names_another(tmp_path: Path) -> None:
    settings = parse_options(tmp_path, ["--output", str(tmp_path / "run")])
    assert with_cache(settings).options == (f"--data.root={tmp_path}", f"--data.cache={tmp_path / 'run' / DECODED}")
    named = parse_options(tmp_path, ["--data.cache", "elsewhere", "--output", str(tmp_path / "run")])
    assert with_cache(named) == named


def test_images_are_kept_where_the_disk_has_room_for_every_size_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = [Contender("a", "", (), canvas=(10, 10, 3)), Contender("b", "", (), canvas=(10, 10, 3))]
    candidates.append(Contender("c", "", (), canvas=(10, 70, 1)))
    for free, fits in ((12_500, True), (12_400, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert has_room(tmp_path / "not" / "there", candidates, 10) == fits


@pytest.mark.slow
def test_a_folder_becomes_a_model_beside_what_was_tried(folder: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "run"
    assert main(folder, ["--minutes", "0.05", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((output / "choice.json").read_text())
    names = [each["name"] for each in figures["trials"]]
    assert {"cnn", "cnn-strong"} <= set(names)
    assert figures["chosen"] in names
    assert Path(figures["model"]).is_file()
    assert 0 <= figures["pixel_regression_test_error"] <= 0.1
    assert figures["majority_test_error"] > 0.3
    assert f"the model: {figures['model']}" in printed
    assert not (output / DECODED).exists()
    page = (output / "choice.html").read_text()
    assert "$" not in page
    assert figures["chosen"] in page
