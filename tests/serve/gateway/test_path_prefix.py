import json
from collections.abc import Iterator

import pytest
from websockets.sync.client import connect

from glimpse_serve.settings import Settings
from tests.support.service import Running, running, toy_files


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    models = toy_files(tmp_path_factory.mktemp("models"))
    with running(Settings(models=models, path_prefix="/team/look")) as made:
        yield made


@pytest.mark.parametrize("prefix", ["/team/look", ""])
def test_paths_work_with_the_prefix_and_without(service, prefix):
    assert service.request("GET", f"{prefix}/v2/health/live").status == 200
    assert json.loads(service.request("GET", f"{prefix}/v1/models").body)
    with connect(f"ws://{service.host}:{service.port}{prefix}/v1/look?model=adaptive", proxy=None) as socket:
        socket.send("nonsense")
        assert json.loads(socket.recv())["status"] == 400


def test_only_the_whole_prefix_is_one(service):
    assert service.request("GET", "/team/lookout").status == 404
    assert service.request("GET", "/team/look/team/look/v2").status == 404


def test_addresses_have_the_prefix(service):
    for path in ("/team/look", "/team/look/", "/"):
        assert service.request("GET", path).headers["location"] == "/team/look/docs"
    assert service.request("GET", "/openapi.json").json["servers"] == [{"url": "/team/look"}]
    page = service.request("GET", "/docs").body.decode()
    assert f"{service.address}/team/look/v1/classify" in page
    assert page.count('href="/') == page.count('href="/team/look/openapi.json"') == 2
