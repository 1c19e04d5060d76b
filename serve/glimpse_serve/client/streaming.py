"""The client's side of a streaming session."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np

from glimpse.images.lazy import LazyImage
from glimpse_serve.client.results import (
    Classification,
    GlimpsePrediction,
    ServiceError,
    read_classification,
    read_error,
    read_glimpse,
)

MAX_WINDOW = 2**22
"""Largest box that the service may request, bytes of pixels."""


class StreamingSession:
    """A streaming session: an iterator of glimpses.

    Attributes:
        classification: The final result; None until the last glimpse was taken.
        bytes_sent: Bytes of pixels sent so far.

    Args:
        image: The image.
        start: The first message: size of the image, and limits.
        address: URL of the WebSocket.
        headers: HTTP headers, with the API key.
        timeout: Longest time to wait for a message, seconds.
        verify: Verification of TLS certificates, as httpx takes it.
    """

    def __init__(
        self,
        image: LazyImage,
        start: dict[str, Any],
        address: str,
        headers: dict[str, str],
        timeout: float,
        verify: Any,
    ) -> None:
        self._image, self._start, self._address = image, start, address
        self._headers, self._timeout, self._verify = headers, timeout, verify
        self.classification: Classification | None = None
        self.bytes_sent = 0

    def __iter__(self) -> Iterator[GlimpsePrediction]:
        """Start the session and yield its glimpses; every iteration starts a new session."""
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
        from websockets.sync.client import connect

        self.classification, self.bytes_sent = None, 0
        secure = httpx.create_ssl_context(self._verify) if self._address.startswith("wss") else None
        try:
            with connect(
                self._address,
                ssl=secure,
                additional_headers=self._headers,
                open_timeout=self._timeout,
                max_size=2**24,
            ) as connection:
                connection.send(json.dumps(self._start))
                while self.classification is None:
                    message = json.loads(connection.recv(self._timeout))
                    if message["type"] == "ask":
                        left, top, right, bottom = message["box"]
                        if (right - left) * (bottom - top) * self._image.channels > MAX_WINDOW:
                            raise ServiceError(0, f"the service asks for too many pixels at once, {message['box']}")
                        pixels = np.ascontiguousarray(self._image.read((left, top, right, bottom))).tobytes()
                        self.bytes_sent += len(pixels)
                        connection.send(pixels)
                    elif message["type"] == "glimpse":
                        yield read_glimpse(message)
                    elif message["type"] == "error":
                        raise ServiceError(message["status"], message["error"])
                    else:
                        self.classification = read_classification(message, message["model"])
        except InvalidStatus as error:
            raise read_error(error.response.status_code, bytes(error.response.body or b"")) from error
        except (OSError, ConnectionClosed, InvalidHandshake) as error:
            raise ServiceError(
                0, f"the connection to {self._address} broke off ({error or type(error).__name__}); look again"
            ) from error
