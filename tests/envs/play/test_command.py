import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from glimpse.cli import app
from glimpse.cli.usage import UsageError
from glimpse_envs.play import command
from glimpse_envs.play.game import Game
from glimpse_envs.play.opponent import Opponent

RETINA = ["--set", "glimpse_size=6", "--set", "num_scales=2"]
FITTING = ["--set", "canvas_height=40", "--set", "canvas_width=52", "--set", "num_pieces=3"]


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert app.main(["play", *args]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("glimpse: ")
    assert told.err.count("\n") == 1
    return told.err


def served(monkeypatch: pytest.MonkeyPatch, moves: Callable[[Game], None]) -> None:
    """Let a function play in the browser's stead."""
    monkeypatch.setattr("glimpse_envs.play.page.serve_game", lambda game, port, opened: moves(game))


def answer_all(game: Game) -> None:
    for _ in game.images:
        game.round.look((0.5, 0.5))
        game.answer(3)
        game.next_image()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Glimpse/Digits-v0", "Digits-v0"),
        ("glimpse_envs:Glimpse/MNIST-v0", "MNIST-v0"),
        ("digits", "Digits-v0"),
        ("ClutteredMNIST100", "ClutteredMNIST100-v0"),
    ],
)
def test_an_environment_is_found_by_its_id_or_less(name, found):
    assert command.find_environment(name).id == found


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "standard input is no terminal, which the game needs; play in a browser with --browser"),
        (["digit", "--browser"], "got 'digit'; did you mean Digits-v0?"),
        (["--browser", "--images", "0"], "expected --images of at least 1, got 0"),
        (["--browser", "--seed", "-1"], "expected --seed of at least 0, got -1"),
        (["--browser", "--glimpses", "0"], "expected --glimpses of at least 1, got 0"),
        (["--browser", "--port", "70000"], "expected --port from 0 (any that is free) to 65535, got 70000"),
        (["--browser", "--set", "glimpse_sise=3"], "got 'glimpse_sise=3'; did you mean glimpse_size?"),
        (["--browser", "--set", "zoom"], "expected --set NAME=VALUE with a name out of"),
        (["--browser", "--set", "zoom=two"], "expected a whole number in --set zoom=two, got 'two'"),
        (["--browser", "--set", "glimpse_cost=x"], "expected a number in --set glimpse_cost=x"),
        (["--browser", "--set", "download=yes"], "expected true or false in --set download=yes"),
        (["--browser", "--set", "zoom=0"], "expected --set zoom of at least 1, got 0; raise it"),
        (["--browser", "--set", "canvas_height=3"], "expected a canvas of at least 24x24 pixels"),
        (["--browser", "--set", "canvas_height=3"], "enlarge --set canvas_height and --set canvas_width"),
        (["--browser", "--set", "canvas_height=0"], "needs a canvas; got --set canvas_height=0, --set canvas_width=28"),
        (["--browser", "--set", "reward=praise"], "expected --set reward out of improvement, terminal, dense; got"),
        (["maze", "--browser"], "expected images to classify, but Maze-v0 is walked through; play another environment"),
        (["sequence", "--browser"], "expected images of one class each, but Sequence-v0 shows sequences"),
        (
            ["mnist", "--browser", "--root", "none"],
            "give its folder with --root or GLIMPSE_DATA, or have it downloaded with --set download=true",
        ),
        (
            ["imagefolder", "--browser", "--root", "none"],
            "expected a folder of images at none, found none; give one with --",
        ),
        (["--browser", "--model", "no.onnx"], "can't load the model 'no.onnx': no such file"),
        (
            ["--browser", "--output", "none/played.json"],
            "got 'none/played.json', whose folder 'none' does not exist; make",
        ),
        (["--browser", "--split", "tset"], "expected one of train, validation, test; got 'tset'; did you mean test?"),
        (["--brwser"], "play knows no '--brwser'; did you mean --browser?"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(args, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("/dev/null") as nothing:  # noqa: PTH123
        monkeypatch.setattr("sys.stdin", nothing)
        assert sentence in refused(capsys, *args)
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_terminals_has_the_browser(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="this system's terminals can't be played in; play in a browser"):
        command.check_arguments(app.parse(["play"]))


def test_a_model_of_other_images_is_refused(exported, capsys):
    told = refused(capsys, "digits", "--browser", "--model", str(exported.path))
    assert "looks at images of 40x52 pixels with 1 channel, but those of the game are 28x28 pixels" in told


def test_a_model_brings_its_retina_and_budget(exported):
    opponent = Opponent(exported.path)
    entry, options = command.choose_environment(app.parse(["play", "--model", "m.onnx"]), opponent)
    assert entry.id == "Digits-v0"
    assert (options["glimpse_size"], options["num_scales"], options["num_glimpses"]) == (6, 2, 3)
    _, options = command.choose_environment(
        app.parse(["play", "--model", "m.onnx", "--glimpses", "9", "--set", "num_scales=1"]), opponent
    )
    assert (options["num_glimpses"], options["num_scales"]) == (9, 1)


def test_a_model_without_an_id_brings_the_images_that_it_learned(exported, monkeypatch):
    opponent = Opponent(exported.path)
    data = {"dataset": "mnist", "canvas_height": 60, "canvas_width": 60, "num_pieces": 4}
    monkeypatch.setitem(opponent.card.recipe, "data", data)
    entry, options = command.choose_environment(app.parse(["play", "--model", "m.onnx"]), opponent)
    assert entry.id == "MNIST-v0"
    assert data.items() <= options.items()
    entry, options = command.choose_environment(app.parse(["play", "digits", "--model", "m.onnx"]), opponent)
    assert (entry.id, options["canvas_height"]) == ("Digits-v0", 28)


def test_a_game_is_played_kept_and_gone_on_with(tmp_path, monkeypatch, capsys, exported):
    monkeypatch.chdir(tmp_path)
    served(monkeypatch, answer_all)
    args = ["play", "--browser", "--images", "3", *FITTING, "--model", str(exported.path)]
    assert app.main(args) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "3 images played"
    assert [line.split("  ")[0] for line in told[2:5]] == [
        "you",
        "the model, as many glimpses",
        "the model, all its glimpses",
    ]
    assert told[-1] == "saved in played.json"
    assert app.main(args) == 0
    assert capsys.readouterr().out.startswith("6 images played, 3 of them earlier\n")
    kept = json.loads((tmp_path / "played.json").read_text())
    assert len({entry["image"] for entry in kept["played"]}) == 6
    assert kept["game"]["options"]["canvas_width"] == 52
    assert "root" not in kept["game"]["options"]
    assert refused(capsys, *args[1:], "--seed", "1").startswith(
        "glimpse: 'played.json' holds another game, with seed=0"
    )
    assert "the model 'model.onnx'" in refused(capsys, *args[1:-2], "--glimpses", "3", *RETINA)


def test_who_plays_nothing_leaves_no_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    served(monkeypatch, lambda game: None)
    assert app.main(["play", "--browser"]) == 0
    assert capsys.readouterr().out == "Nothing was played.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.default_int_handler, lambda *_: None])
def test_ctrl_c_ends_a_game_that_was_started_with_it_ignored(before, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    within = []
    served(monkeypatch, lambda _: within.append(signal.getsignal(signal.SIGINT)))
    outside = signal.signal(signal.SIGINT, before)
    try:
        assert app.main(["play", "--browser"]) == 0
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, outside)
    assert within == [signal.default_int_handler if before is signal.SIG_IGN else before]


def test_a_model_needs_its_runtime_and_nothing_else_does(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for module in ("session", "stepping", "graph", "model_file", "providers"):
        monkeypatch.delitem(sys.modules, f"glimpse.runtime.{module}", raising=False)
    told = refused(capsys, "--browser", "--model", "m.onnx")
    assert "--model needs onnxruntime, which is not installed; pip install 'glimpse-attention[serve]'" in told


@pytest.mark.child
def test_a_game_without_a_model_does_without_onnxruntime():
    program = "import sys; sys.modules['onnxruntime'] = None; import glimpse_envs.play.command;"
    program += "import glimpse_envs.play.terminal, glimpse_envs.play.page"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
