import asyncio
from typing import Any

import pytest

from glimpse_serve.errors import HTTPError
from glimpse_serve.http.cancellation import cancel_on_disconnect


async def leave() -> Any:
    return {"type": "http.disconnect"}


async def stay() -> Any:
    await asyncio.sleep(30)


def test_a_result_is_returned():
    async def work() -> int:
        return 7

    async def main() -> None:
        assert await cancel_on_disconnect(stay, work(), 1.0) == 7

    asyncio.run(main())


def test_work_is_cancelled_when_the_client_disconnects():
    async def main() -> None:
        result = asyncio.get_running_loop().create_future()
        with pytest.raises(HTTPError, match="left before") as error:
            await cancel_on_disconnect(leave, result, 5.0)
        assert error.value.status == 499
        assert result.cancelled()

    asyncio.run(main())


def test_work_that_takes_too_long_is_cancelled():
    async def main() -> None:
        result = asyncio.get_running_loop().create_future()
        with pytest.raises(HTTPError, match="deadline") as error:
            await cancel_on_disconnect(stay, result, 0.1)
        assert error.value.status == 504
        assert result.cancelled()

    asyncio.run(main())


def test_cancelling_the_waiting_task_cancels_the_work():
    async def main() -> None:
        result = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(cancel_on_disconnect(stay, result, 5.0))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert result.cancelled()

    asyncio.run(main())


def test_an_error_of_the_work_is_raised():
    async def fails() -> None:
        raise HTTPError(422, "no", "image")

    async def main() -> None:
        with pytest.raises(HTTPError, match="no"):
            await cancel_on_disconnect(stay, fails(), 1.0)

    asyncio.run(main())
