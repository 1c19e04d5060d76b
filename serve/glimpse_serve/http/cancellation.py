"""Cancelling the work of a request whose client has disconnected."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from glimpse_serve.errors import HTTPError
from glimpse_serve.http.request import Receive
from glimpse_serve.inference.batcher import deadline_error

DISCONNECT_CHECK_SECONDS = 0.05
"""The connection is watched for a disconnect only after this time. Most results are ready sooner."""


async def cancel_on_disconnect(receive: Receive, work: Awaitable[Any], seconds: float) -> Any:
    """Await a result; cancel it when the client disconnects or the time is up.

    Args:
        receive: ASGI's receive channel of the request, whose body has been read.
        work: Computes the result; cancelled when the client disconnects.
        seconds: Longest time to wait.

    Raises:
        HTTPError: 504 when it takes too long; 499 when the client has disconnected.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    watchers: list[asyncio.Future[Any]] = []
    timer = loop.call_later(
        DISCONNECT_CHECK_SECONDS,
        lambda: watchers.append(asyncio.ensure_future(_wait_for_disconnect(receive, task, seconds))),
    )
    try:
        return await task
    except asyncio.CancelledError:
        if watchers and watchers[0].done() and not watchers[0].cancelled():
            raise watchers[0].result() from None
        task.cancel()
        raise
    finally:
        timer.cancel()
        for watcher in watchers:
            watcher.cancel()


def disconnected() -> HTTPError:
    """The error of a request whose client has disconnected; it is logged and not sent."""
    return HTTPError(499, "the client left before the response", "gone")


async def _wait_for_disconnect(receive: Receive, task: "asyncio.Future[Any]", seconds: float) -> HTTPError:
    """Cancel a task when the client disconnects or the time is up, and return the error."""
    error = disconnected()
    try:
        async with asyncio.timeout(max(0.0, seconds - DISCONNECT_CHECK_SECONDS)):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        error = deadline_error()
    task.cancel()
    return error
