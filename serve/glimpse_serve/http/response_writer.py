"""The head of a response and the first part of its body in one write.

uvicorn writes the head at ASGI's ``http.response.start`` and the body at ``http.response.body``: two system calls and
two packets a response. ASGI lets a server keep the head until the first part of the body comes, which is at once.
"""

import asyncio
from typing import Any

_INTERIM = b"HTTP/1.1 1"
"""What an interim response (RFC 9110, 15.2) begins with; it has no body, and another response follows it."""


class ResponseWriter(asyncio.Transport):
    """What the parts of one response are written to.

    Args:
        transport: The connection.
    """

    def __init__(self, transport: Any) -> None:
        super().__init__()
        self._transport = transport
        self._head: Any = None
        self._head_came = False

    def write(self, data: Any) -> None:
        """Write a part of the response; the head waits for the next part.

        Args:
            data: The head, an interim response, or a part of the body.
        """
        if not self._head_came and not data.startswith(_INTERIM):
            self._head, self._head_came = data, True
        elif self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines([head, data])
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write a head that no body follows: of a response to HEAD, or one that broke off."""
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)

    def close(self) -> None:
        """Write what waits, and close the connection."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the connection is being closed."""
        return bool(self._transport.is_closing())
