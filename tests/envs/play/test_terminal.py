import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from glimpse_envs.classification.task import Task
from glimpse_envs.play.game import Game, GameError
from glimpse_envs.play.keyboard import LEAVE_SCREEN
from glimpse_envs.play.opponent import Opponent
from glimpse_envs.play.record import GameRecord, GameSettings
from glimpse_envs.play.terminal import GameScreen, class_keys, scanpath_lines
from glimpse_envs.play.text_width import display_width

REPOSITORY = Path(__file__).parents[3]


def sit_down(folder, images=(4, 9), opponent=None, **options) -> Game:
    given = {"split": "test", "canvas_height": 28, "canvas_width": 28, "num_glimpses": 3, **options}
    core = Task.of(**given).core()
    settings = GameSettings("Glimpse/Digits-v0", {}, 0, core.scenes.classes, len(core.scenes), None)
    return Game(core, images, 0, GameRecord(folder / "played.json", settings), opponent, time.monotonic)


def plain(lines: list[str]) -> str:
    return "\n".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in lines)


def width(line: str) -> int:
    return display_width(plain([line]))


@pytest.mark.parametrize(
    ("classes", "keys"),
    [
        (["0", "1"], ["0", "1"]),
        (["x", "Y"], ["x", "Y"]),
        (["cat", "dog"], ["a", "b"]),
        (["g", "h"], ["a", "b"]),
        (["猫", "犬"], ["a", "b"]),
        (["\u0301", "\x1b"], ["a", "b"]),
        ([f"c{number}" for number in range(8)], list("abcdefgi")),
    ],
)
def test_each_class_has_a_key_that_means_nothing_else(classes, keys):
    assert class_keys(classes) == keys


def test_more_classes_than_keys_are_for_the_browser():
    with pytest.raises(GameError, match="expected at most 52 classes, one a key, got 100; play with --browser"):
        class_keys([str(number) for number in range(100)])


def test_keys_move_the_window_and_enter_looks(tmp_path):
    face = GameScreen(sit_down(tmp_path))
    for key in ("right", "down", "K", "h", "far-left"):
        face.press(key)
    # The window is 12 pixels wide: a quarter of it is 3.
    assert face.cursor == (14 + 3 - 3 - 12, 14 + 3 - 12)
    face.press("enter")
    assert face.game.round.glimpses[1].location == pytest.approx((2 / 14 - 1, 5 / 14 - 1))
    for _ in range(9):
        face.press("L")
        face.press("down")
    assert face.cursor == (28, 28)
    face.press("space")
    assert face.game.round.glimpses_left == 0
    face.press("enter")
    assert "all 3 glimpses are taken; answer" in plain(face.screen(80, 24))
    assert face.game.round.glimpses_taken == 3


def test_answers_lead_on_and_to_the_end(tmp_path):
    face = GameScreen(sit_down(tmp_path))
    face.press("5")
    assert re.search(r"right: 5|you said 5, it is \d", plain(face.screen(80, 24)))
    face.press("3")
    assert face.game.entry().answer == 5
    face.press("enter")
    assert "image 2 of 2" in plain(face.screen(80, 24))
    face.press("0")
    assert "Enter: the result" in plain(face.screen(80, 24))
    face.press("enter")
    assert face.finished
    assert len(face.game.record.entries) == 2


def test_help_and_other_keys_cost_nothing(tmp_path):
    face = GameScreen(sit_down(tmp_path))
    face.press("?")
    assert "shift arrows, H J K L" in plain(face.screen(80, 24))
    face.press("7")
    assert not face.showing_help
    face.press("z")
    assert "'z' is no key of the game" in plain(face.screen(80, 24))
    assert (face.game.round.glimpses_taken, face.game.round.over) == (1, False)
    face.press("q")
    assert face.finished


@pytest.mark.parametrize("size", [(80, 24), (60, 18), (200, 60), (83, 25)])
@pytest.mark.parametrize("canvas", [28, 60, 101])
def test_every_screen_fits_its_terminal(size, canvas, tmp_path, exported):
    face = GameScreen(sit_down(tmp_path, canvas_height=canvas, canvas_width=canvas))
    screens = [face.screen(*size)]
    for key in ("right", "enter", "?", "x", "4"):
        face.press(key)
        screens.append(face.screen(*size))
    assert all(len(screen) <= size[1] for screen in screens)
    assert all(width(line) <= size[0] for screen in screens for line in screen)
    assert "Which class is it?" in plain(screens[0])
    assert "the next image" in plain(screens[-1])


def test_a_terminal_that_is_too_small_says_so(tmp_path):
    assert plain(GameScreen(sit_down(tmp_path)).screen(30, 10)).startswith("The terminal has 30x10")


def test_named_classes_are_listed_with_their_keys(tmp_path):
    game = sit_down(tmp_path)
    game.classes = tuple(f"animal {number}" for number in range(10))
    face = GameScreen(game)
    shown = plain(face.screen(80, 24))
    assert "a animal 0" in shown
    assert "k animal" not in shown
    face.press("b")
    assert game.entry().answer == 1


@pytest.mark.parametrize("size", [(60, 18), (80, 24)])
@pytest.mark.parametrize("count", [10, 40])
@pytest.mark.parametrize(
    "name", ["x\x1b[2Jevil\n", "\u202ehound " * 30, "猫" * 60, "e\u0301" * 90, "\udcff\x9b5n"], ids=range(5)
)
def test_a_classs_name_neither_acts_on_the_screen_nor_overflows_it(name, count, size, tmp_path, exported):
    fitting = {"canvas_height": 40, "canvas_width": 52, "num_pieces": 3, "glimpse_size": 6, "num_scales": 2}
    game = sit_down(tmp_path, opponent=Opponent(exported.path), **fitting)
    game.classes = tuple(f"{number}{name}" for number in range(count))
    face = GameScreen(game)
    screens = [face.screen(*size)]
    face.press("a")
    screens.append(face.screen(*size))
    for line in (line for screen in screens for line in screen):
        # Colours are all that is left besides letters.
        assert re.sub(r"\x1b\[(?:[34]8;2;\d+;\d+;\d+|0)m", "", line).isprintable()
        assert width(line) <= size[0]
    assert re.search(r"right: \d|you said 0.*, it is \d", plain(screens[1]))


def test_an_image_that_another_game_kept_is_told_and_gone_on_from(tmp_path):
    other, face = sit_down(tmp_path), GameScreen(sit_down(tmp_path))
    other.answer(3)
    face.press("5")
    for size in ((60, 18), (80, 24)):
        shown = " ".join(plain(face.screen(*size)).split())
        assert "image 4 was answered in another game meanwhile" in shown
        assert "Enter: the next image" in shown
    face.press("enter")
    assert "image 2 of 2" in plain(face.screen(80, 24))
    assert [entry.answer for entry in face.game.record.entries] == [3]


def test_what_nobody_saw_is_not_shown(tmp_path):
    face = GameScreen(sit_down(tmp_path, num_scales=1, glimpse_size=4))
    whole = GameScreen(sit_down(tmp_path, num_scales=1, glimpse_size=4)).game.round
    whole.declare(0)
    bright = whole.full_image()[..., 0] > 120
    bright[10:18, 10:18] = False
    shown = face.screen(80, 24)
    assert bright.any()
    # Of the first line's pixels none was seen: all are of the one colour that stands for it.
    assert shown[1].count("\x1b[38;2;") == 1
    assert "38;2;41;44;52" in shown[1]


def test_the_models_path_stands_beside_ones_own(tmp_path, exported):
    game = sit_down(
        tmp_path,
        opponent=Opponent(exported.path),
        canvas_height=40,
        canvas_width=52,
        num_pieces=3,
        glimpse_size=6,
        num_scales=2,
    )
    face = GameScreen(game)
    assert "the model" not in plain(face.screen(120, 40))
    face.press("enter")
    face.press("1")
    shown = plain(face.screen(120, 40))
    assert "the model with 2: " in shown
    assert "the model with 3: " in shown
    assert game.record.entries[0].model is not None


def test_a_path_numbers_its_fixations():
    lines = scanpath_lines(
        np.zeros((20, 20, 3), np.uint8), np.array([[-0.5, -0.5], [0.5, 0.5]]), np.zeros((2, 0, 4)), 1.0
    )
    assert [plain(lines)[index] for index in (2 * 21 + 5, 7 * 21 + 15)] == ["1", "2"]


IGNORING = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")
"""Starts a command with SIGINT ignored, as a shell without job control does in the background."""


class Player:
    """Somebody at a terminal of 80x24 in which the game runs; the game is ended and the terminal closed on leaving it.

    Args:
        folder: Where the game runs.
        args: Of ``glimpse play``.
        start: What the command is started by.
    """

    def __init__(self, folder: Path, *args: str, start: Sequence[str] = ()) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.shown = ""
        environment = {
            **os.environ,
            "TERM": "xterm-256color",
            "PYTHONPATH": os.pathsep.join(str(REPOSITORY / name) for name in ("", "envs", "serve")),
        }
        command = [*start, sys.executable, "-m", "glimpse", "play", *args]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=environment, start_new_session=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def see(self, text: str, seconds: float = 60.0) -> None:
        """Wait until a text is on the screen, from what was last waited for on."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} did not come; there is {self.shown[-2000:]!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                self.shown += os.read(self.master, 65536).decode(errors="replace")
        self.shown = self.shown.partition(text)[2]

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def leave(self) -> int:
        status = self.process.wait(30)
        while select.select([self.master], [], [], 0.2)[0]:
            self.shown += os.read(self.master, 65536).decode(errors="replace")
        assert termios.tcgetattr(self.slave) == self.before
        return status


@pytest.mark.child
def test_a_person_plays(tmp_path):
    with Player(tmp_path, "--images", "2") as player:
        player.see("image 1 of 2")
        player.press("\x1b[C\x1b[1;2A\n")
        player.see("2 left")
        player.press("3")
        player.see("Enter: the next image")
        player.press("\r")
        player.see("image 2 of 2")
        player.press("8")
        player.see("Enter: the result")
        player.press("\n")
        player.see(LEAVE_SCREEN)
        player.see("2 images played")
        player.see("saved in played.json")
        assert player.leave() == 0
    record = (tmp_path / "played.json").read_text()
    assert record.count('"image"') == 2


@pytest.mark.child
@pytest.mark.parametrize(
    ("how", "status", "start"),
    [("q", 0, ()), ("\x03", 130, ()), ("\x03", 130, IGNORING), (signal.SIGTERM, 143, ())],
)
def test_whoever_leaves_finds_the_terminal_as_it_was(how, status, start, tmp_path):
    with Player(tmp_path, "--images", "3", start=start) as player:
        player.see("image 1 of 3")
        player.press("1")
        player.see("Enter: the next image")
        if isinstance(how, str) and how == "q":
            player.press("q")
        else:
            # The terminal is not this process's controlling one, so that the signal of Ctrl-C is sent by hand.
            player.process.send_signal(signal.SIGINT if how == "\x03" else how)
        player.see(LEAVE_SCREEN)
        player.see("1 image played")
        assert player.leave() == status
    assert (tmp_path / "played.json").read_text().count('"image"') == 1


@pytest.mark.child
def test_a_record_that_can_not_be_written_leaves_the_terminal_as_it_was(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with Player(tmp_path, "--output", "folder/played.json", "--images", "2") as player:
        player.see("image 1 of 2")
        folder.rmdir()
        player.press("1")
        player.see(LEAVE_SCREEN)
        player.see("Nothing was played.")
        player.see("glimpse: can't use")
        assert player.leave() == 2
