import contextlib
import resource
import socket
import time
from pathlib import Path

import pytest

from glimpse_serve import server
from tests.serve.test_server import Process, toy

__all__ = ["toy"]


@pytest.mark.child
def test_with_few_open_files_fewer_connections_are_taken_and_probes_are_answered(toy):
    with Process(toy, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))) as process:
        process.ready()
        assert any("the system allows 300" in line for line in process.lines)
        with contextlib.ExitStack() as silent:
            for _ in range(400):
                silent.enter_context(socket.create_connection(("127.0.0.1", process.port), 20))
            for _ in range(200):
                if process.request("GET", "/v2/health/live")[0] == 200:
                    break
                time.sleep(0.1)
            assert process.request("GET", "/v2/health/live")[0] == 200
            assert len(list(Path(f"/proc/{process.process.pid}/fd").iterdir())) < 300
        assert process.end() == 0


def test_files_are_shared_between_connections_and_the_service(monkeypatch):
    limits = [1024, resource.RLIM_INFINITY]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: limits.__setitem__(0, given[0]))
    assert server._share_files(2048) == (2048, server.BACKLOG)
    assert limits[0] == 2048 + server.BACKLOG + server.OWN_FILES
    limits[:] = [256, 600]
    connections, backlog = server._share_files(2048)
    assert (limits[0], connections) == (600, 236)
    assert connections + backlog + server.OWN_FILES <= 600
    assert server._share_files(16)[0] == 16
