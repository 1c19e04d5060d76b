"""Fixtures for tests of the game in a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chromium import Chromium
from tests.support.play import PageClient, make_game, serve_in_thread


@pytest.fixture
def client(tmp_path: Path) -> Iterator[PageClient]:
    server, thread = serve_in_thread(make_game(tmp_path))
    yield PageClient(server)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None or shutil.which("bash") is None:
        pytest.skip("there is no Chromium to try the page in")
    with Chromium(program, tmp_path / "profile") as browser:
        yield browser
