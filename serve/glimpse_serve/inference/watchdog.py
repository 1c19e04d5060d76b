"""The watchdog of the models: it ends runs of their graphs that go on for too long.

The end of a loop in a graph may depend on the image, so that a model which passed its trial can still run for ever. A
run occupies a thread, or the event loop itself, and no Python code can be interrupted in it; the watchdog has a thread
of its own and tells onnxruntime to stop before the next operator.
"""

import threading
import weakref

from glimpse.runtime.session import GlimpseSession

TICK_SECONDS = 0.25
"""Time between two rounds."""


class Watchdog:
    """Ends runs that go on for too long.

    Args:
        seconds: How long a run may go on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._sessions: weakref.WeakSet[GlimpseSession] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def watch(self, session: GlimpseSession) -> None:
        """Watch a session for as long as it is in use.

        Args:
            session: The session.
        """
        with self._lock:
            self._sessions.add(session)

    def close(self) -> None:
        """End all runs, and those that are still to come; the thread ends with the last session."""
        self._seconds = 0.0
        self._closed.set()
        self._interrupt()

    def _interrupt(self) -> bool:
        """Whether there are sessions."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.interrupt(self._seconds)
        return bool(sessions)

    def _run(self) -> None:
        pause = threading.Event()
        while self._interrupt() or not self._closed.is_set():
            pause.wait(TICK_SECONDS)
