"""A service behind a proxy that serves it under a path of its own."""

from typing import Any

from glimpse_serve.http.request import Receive, Scope, Send


class PathPrefix:
    """ASGI middleware that removes the prefix of paths; a path without it stays, as from a proxy that removed it.

    Args:
        app: The wrapped application.
        prefix: The prefix, such as ``/glimpse``.
    """

    def __init__(self, app: Any, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        path = scope.get("path", "")
        if path == self._prefix or path.startswith(f"{self._prefix}/"):
            scope = {**scope, "path": path.removeprefix(self._prefix) or "/"}
        await self._app(scope, receive, send)
