"""A window on the screen for render mode ``human``. pygame is imported only when one opens."""

import importlib
import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled, Error
from jaxtyping import UInt8


class Window:
    """Shows one frame after another at a steady pace.

    pygame knows one window in a process: whoever showed a frame last has it. Somebody who closes the window on the
    screen has seen enough: it stays closed, and the frames that follow are dropped.

    Args:
        frames_per_second: How many frames it shows, at most.
    """

    def __init__(self, frames_per_second: float) -> None:
        self.frames_per_second = frames_per_second
        self.dismissed = False
        self._pygame: Any = None
        self._clock: Any = None

    def show(self, frame: UInt8[np.ndarray, "height width 3"], title: str) -> None:
        """Show a frame, and wait until it is time for the next.

        Args:
            frame: RGB, 0 to 255; the window takes its size.
            title: Of the window.

        Raises:
            DependencyNotInstalled: When pygame is missing.
            Error: When there is no screen.
        """
        if self.dismissed:
            return
        surface = self._open((frame.shape[1], frame.shape[0]))
        pygame = self._pygame
        pygame.display.set_caption(title)
        surface.blit(pygame.surfarray.make_surface(frame.swapaxes(0, 1)), (0, 0))
        pygame.display.flip()
        self.pump()
        self._clock.tick(self.frames_per_second)

    def pump(self) -> None:
        """Answer the screen, so that it doesn't take the window for dead; call it between frames that are far apart."""
        if self._pygame is None:
            return
        if any(event.type == self._pygame.QUIT for event in self._pygame.event.get()):
            self.dismissed = True
            self.close()

    def close(self) -> None:
        """Close the window, if it is open; a frame that is shown afterwards opens it again."""
        if self._pygame is not None:
            self._pygame.display.quit()
            self._pygame = None

    def _open(self, size: tuple[int, int]) -> Any:
        """Have a window of this size, and return its surface."""
        if self._pygame is None:
            self._pygame = _import_pygame()
            self._clock = self._pygame.time.Clock()
        display = self._pygame.display
        try:
            display.init()
            surface = display.get_surface()
            return surface if surface is not None and surface.get_size() == size else display.set_mode(size)
        except self._pygame.error as error:
            raise Error(
                f"expected a screen to open a window on, found none ({error}); "
                "use render_mode='rgb_array', or set SDL_VIDEODRIVER=dummy to show the frames to nobody"
            ) from error


def _import_pygame() -> ModuleType:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        return importlib.import_module("pygame")
    except ImportError as error:
        raise DependencyNotInstalled(
            "expected pygame, which shows render mode 'human' on the screen, found none; "
            "run pip install 'glimpse-attention[envs]'"
        ) from error


def check_render_mode(mode: str | None, known: Sequence[str]) -> str | None:
    """Return a render mode that there is.

    Raises:
        gymnasium.error.UnsupportedMode: When there is no such mode.
    """
    if mode is not None and mode not in known:
        raise gymnasium.error.UnsupportedMode(f"expected render_mode out of {', '.join(known)}, or none; got {mode!r}")
    return mode
