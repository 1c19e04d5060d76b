"""Ending work whose client has gone."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from glimpse_serve.errors import HTTPError
from glimpse_serve.http.bodies import Receive
from glimpse_serve.inference.batcher import overdue

PATIENCE_SECONDS = 0.05
"""After this time it is watched whether the client that waits has gone. Most answers are there sooner."""


async def unless_gone(receive: Receive, answer: Awaitable[Any], seconds: float) -> Any:
    """Wait for an answer, as long as there is anybody to get it.

    Args:
        receive: Of the request, whose body has been read.
        answer: What is waited for; it is cancelled when the client leaves.
        seconds: How long to wait.

    Raises:
        Refusal: 504 when it takes too long; 499, which nobody reads, when the client has left.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(answer)
    watchers: list[asyncio.Future[Any]] = []
    timer = loop.call_later(
        PATIENCE_SECONDS, lambda: watchers.append(asyncio.ensure_future(_leaving(receive, task, seconds)))
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


async def _leaving(receive: Receive, task: "asyncio.Future[Any]", seconds: float) -> HTTPError:
    """Cancel a task when the client leaves or the time is up, and tell why."""
    why = HTTPError(499, "the client left before its answer", "gone")
    try:
        async with asyncio.timeout(max(0.0, seconds - PATIENCE_SECONDS)):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        why = overdue()
    task.cancel()
    return why
