"""A window on the screen for render mode ``human``. pygame is imported when the first window opens."""

import importlib
import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled, Error
from jaxtyping import UInt8

_DRIVERS = "SDL_VIDEODRIVER"
_WITHOUT_SCREEN = "offscreen"
"""SDL's driver where there is no screen: its windows are shown nowhere, which only those who name it expect."""


class DisplayWindow:
    """Shows frames at a limited rate.

    pygame has one window for each process, which all instances share. When the user closes the window, it stays closed,
    and this instance ignores further frames.

    Args:
        frames_per_second: Largest number of frames per second.
    """

    def __init__(self, frames_per_second: float) -> None:
        self.frames_per_second = frames_per_second
        self.closed_by_user = False
        self._pygame: Any = None
        self._clock: Any = None

    def show(self, frame: UInt8[np.ndarray, "height width 3"], title: str) -> None:
        """Show a frame, and wait until the next one is due.

        Args:
            frame: RGB, 0 to 255; the window is resized to it.
            title: Title of the window.

        Raises:
            DependencyNotInstalled: When pygame is missing.
            Error: When there is no screen.
        """
        if self.closed_by_user:
            return
        surface = self._open((frame.shape[1], frame.shape[0]))
        pygame = self._pygame
        pygame.display.set_caption(title)
        surface.blit(pygame.surfarray.make_surface(frame.swapaxes(0, 1)), (0, 0))
        pygame.display.flip()
        self.handle_events()
        self._clock.tick(self.frames_per_second)

    def handle_events(self) -> None:
        """Process window events, so that the system does not report the window as unresponsive.

        Call it between frames that are far apart.
        """
        if self._pygame is None:
            return
        if any(event.type == self._pygame.QUIT for event in self._pygame.event.get()):
            self.closed_by_user = True
            self.close()

    def close(self) -> None:
        """Close the window if it is open; the next frame opens it again."""
        if self._pygame is not None:
            self._pygame.display.quit()
            self._pygame = None

    def _open(self, size: tuple[int, int]) -> Any:
        """Open or resize the window, and return its surface."""
        if self._pygame is None:
            self._pygame = _import_pygame()
            self._clock = self._pygame.time.Clock()
        display = self._pygame.display
        try:
            display.init()
            if display.get_driver() == _WITHOUT_SCREEN and _WITHOUT_SCREEN not in os.environ.get(_DRIVERS, ""):
                display.quit()
                raise self._pygame.error("neither DISPLAY nor WAYLAND_DISPLAY names one that answers")
            surface = display.get_surface()
            return surface if surface is not None and surface.get_size() == size else display.set_mode(size)
        except self._pygame.error as error:
            raise Error(
                f"expected a screen to open a window on, found none ({error}); "
                f"use render_mode='rgb_array', or set {_DRIVERS}=dummy to discard the frames"
            ) from error


def _import_pygame() -> ModuleType:
    """Import pygame, set to draw on the processor.

    By default SDL copies even plain pixels to the window by OpenGL. Mesa's OpenGL brings its own LLVM into the process,
    and the LLVM of triton, which torchvision imports, then ends in a segmentation fault.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")
    try:
        return importlib.import_module("pygame")
    except ImportError as error:
        raise DependencyNotInstalled(
            "expected pygame, which shows render mode 'human' on the screen, found none; "
            "run pip install 'glimpse-attention[envs]'"
        ) from error


def check_render_mode(mode: str | None, known: Sequence[str]) -> str | None:
    """Return the render mode after a check that it exists.

    Args:
        mode: The render mode, or None.
        known: The render modes of the environment.

    Raises:
        gymnasium.error.UnsupportedMode: When the mode is not among ``known``.
    """
    if mode is not None and mode not in known:
        raise gymnasium.error.UnsupportedMode(f"expected render_mode out of {', '.join(known)}, or none; got {mode!r}")
    return mode
