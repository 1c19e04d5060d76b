import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled, Error

from glimpse_envs.window import DisplayWindow

pygame = pytest.importorskip("pygame")

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def with_a_dummy_screen(monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    yield
    pygame.display.quit()


def frame(height: int = 6, width: int = 9) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[2, -4] = (10, 200, 30)
    return pixels


def test_a_frame_is_shown_pixel_for_pixel_under_its_title():
    window = DisplayWindow(1000.0)
    window.show(frame(), "a maze")
    surface = pygame.display.get_surface()
    assert surface.get_size() == (9, 6)
    assert surface.get_at((5, 2))[:3] == (10, 200, 30)
    assert surface.get_at((2, 5))[:3] == (0, 0, 0)
    assert pygame.display.get_caption()[0] == "a maze"
    window.close()


def test_the_window_takes_the_size_of_each_frame():
    window = DisplayWindow(1000.0)
    window.show(frame(), "one")
    window.show(frame(12, 4), "two")
    assert pygame.display.get_surface().get_size() == (4, 12)
    window.close()


def test_a_closed_window_opens_again_for_the_next_frame():
    window = DisplayWindow(1000.0)
    window.close()
    window.show(frame(), "one")
    window.close()
    window.close()
    assert not pygame.display.get_init()
    window.show(frame(), "two")
    assert pygame.display.get_surface() is not None
    window.close()


def test_two_windows_share_the_only_one_that_there_is():
    first, second = DisplayWindow(1000.0), DisplayWindow(1000.0)
    first.show(frame(), "one")
    second.show(frame(3, 5), "two")
    second.close()
    first.show(frame(), "one")
    assert pygame.display.get_surface().get_size() == (9, 6)
    first.close()


def test_whoever_closes_the_window_on_the_screen_sees_no_more():
    window = DisplayWindow(1000.0)
    window.handle_events()
    window.show(frame(), "one")
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    window.handle_events()
    assert window.closed_by_user
    assert not pygame.display.get_init()
    window.show(frame(), "two")
    window.handle_events()
    assert not pygame.display.get_init()


def test_frames_are_shown_at_a_steady_pace():
    window = DisplayWindow(50.0)
    start = pygame.time.get_ticks()
    for _ in range(4):
        window.show(frame(), "maze")
    assert pygame.time.get_ticks() - start >= 3 * 1000 / 50 - 10
    window.close()


def test_without_pygame_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    sentence = r"expected pygame, .* found none; run pip install 'glimpse-attention\[envs\]'"
    with pytest.raises(DependencyNotInstalled, match=sentence):
        DisplayWindow(4.0).show(frame(), "maze")


def test_without_a_screen_the_error_says_what_else_there_is(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "none such")
    with pytest.raises(Error, match=r"expected a screen .* use render_mode='rgb_array'"):
        DisplayWindow(4.0).show(frame(), "maze")


def in_a_child(program: str, **variables: str) -> list[str]:
    """The lines that a program prints in a process whose only screens are those of the given variables."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET", "SDL_VIDEODRIVER")
    environment = {name: value for name, value in os.environ.items() if name not in screens}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "envs")))
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**environment, **variables}
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


SHOW = """
import numpy
from glimpse_envs.window import DisplayWindow
try:
    DisplayWindow(1000.0).show(numpy.zeros((6, 9, 3), numpy.uint8), "one")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.child
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere SDL needs neither X11 nor Wayland")
@pytest.mark.parametrize(
    "variables",
    [{}, {"DISPLAY": ":77"}, {"WAYLAND_DISPLAY": "none-such"}, {"DISPLAY": "", "SDL_VIDEODRIVER": "x11"}],
    ids=["no variable", "X11 that does not answer", "Wayland that does not answer", "X11 by name"],
)
def test_a_machine_without_a_screen_is_told_what_else_there_is(variables):
    (said,) = in_a_child(SHOW, **variables)
    assert re.match(r"Error expected a screen .*found none \(.+\); use render_mode='rgb_array', or set SDL_", said)


@pytest.mark.child
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere SDL has other drivers")
@pytest.mark.parametrize("driver", ["dummy", "offscreen", "x11,offscreen"])
def test_frames_are_discarded_by_the_drivers_that_show_nothing_without_opengl(driver):
    libraries = "print([line.split()[-1] for line in open('/proc/self/maps') if 'libEGL' in line or 'LLVM' in line])"
    assert in_a_child(SHOW + libraries, SDL_VIDEODRIVER=driver) == ["[]"]


@pytest.mark.child
@pytest.mark.slow
@pytest.mark.parametrize("variables", [{}, {"SDL_VIDEODRIVER": "offscreen"}], ids=["no screen", "offscreen"])
def test_torchvision_can_be_imported_after_an_attempt_to_open_a_window(variables):
    pytest.importorskip("torchvision")
    assert in_a_child(SHOW + "import torchvision; print('imported')", **variables)[-1] == "imported"


@pytest.mark.child
def test_importing_it_leaves_pygame_alone():
    assert in_a_child("import sys, glimpse_envs.window; print('pygame' in sys.modules)") == ["False"]
