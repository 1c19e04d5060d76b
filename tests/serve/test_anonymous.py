"""What a client without a key learns of a service that wants one: nothing about its models."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from glimpse_serve.gateway.api_keys import make_key
from glimpse_serve.settings import Settings
from tests.support import toys
from tests.support.service import Running, running

NAMES = ("heron", "teal", "smew", "marshland", "next_state", "refused-file", ".onnx", "folder-of")
"""What an operator's models are made of: names, classes, data, kind, tensors, files."""
SECRET, ENTRY = make_key("bittern")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("folder-of-models")
    toys.write_toy(folder / "heron.onnx", replace(toys.ADAPTIVE, classes=("teal", "smew", "coot"), data="marshland"))
    (folder / "refused-file.onnx").write_bytes(b"nonsense")
    with running(Settings(directory=str(folder), keys=ENTRY, cors=("https://good.org",))) as made:
        yield made


def paths(service: Running) -> Iterator[str]:
    """Every path of the service, with names that exist and names that do not, and some that lead nowhere."""
    for template in [*service.service.routes, "/v1/look", "/v1/nowhere", "/v2/models/heron/config", "//", "/metrics/"]:
        models = ("heron", "herons", "%68eron") if "{model}" in template else ("",)
        versions = ("1", "7") if "{version}" in template else ("",)
        for model, version in itertools.product(models, versions):
            yield template.replace("{model}", model).replace("{version}", version)


def text_of(response: Any) -> str:
    return f"{json.dumps(response.headers)} {response.body.decode('latin-1')}".lower()


@pytest.fixture
def unlimited(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who tries many wrong keys is told to wait, which would hide the answers."""
    monkeypatch.setattr("glimpse_serve.gateway.authentication.WRONG_KEYS", (1e6, 10**6))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PUT", "TRACE"])
@pytest.mark.usefixtures("unlimited")
def test_no_route_tells_a_stranger_of_the_models(service, method):
    asked = 0
    for path, secret in itertools.product(paths(service), (None, "a wrong key")):
        headers = {"X_Request_ID": "mine", "Origin": "https://good.org"} | ({"X_API_Key": secret} if secret else {})
        for query in ("", "?model=herons", "?version=7&model=heron"):
            response = service.request(method, path + query, b"{}" if method == "POST" else None, **headers)
            said = text_of(response)
            assert response.status in ((200, 400, 405) if path.startswith("/v2/health/") else (401,)), (method, path)
            assert not [name for name in NAMES if name in said], (method, path, said)
            asked += 1
    assert asked > 100


@pytest.mark.usefixtures("unlimited")
def test_a_preflight_tells_a_stranger_nothing(service):
    for path in paths(service):
        response = service.request("OPTIONS", path, Origin="https://good.org", Access_Control_Request_Method="POST")
        assert not [name for name in NAMES if name in text_of(response)]


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("query", ["", "?model=herons", "?model=heron", "?version=9"])
def test_a_refused_handshake_tells_a_stranger_nothing(service, query):
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://{service.host}:{service.port}/v1/look{query}"):
        pass
    response = refused.value.response
    assert response.status_code == 401
    said = (str(response.headers) + response.body.decode()).lower()
    assert not [name for name in NAMES if name in said]


def test_who_has_a_key_is_told_the_names(service):
    for path in ("/v2/models/herons/ready", "/v1/models", "/docs", "/openapi.json", "/v2/models/heron"):
        assert "heron" in service.request("GET", path, X_API_Key=SECRET).body.decode()
    assert service.request("GET", "/v2/models/heron/versions/1/ready", X_API_Key=SECRET).status == 200


def test_before_the_models_are_loaded_health_gives_no_reason_with_names(service, monkeypatch):
    monkeypatch.setattr(service.service.context.readiness, "started", False)
    response = service.request("GET", "/v2/health/ready")
    assert response.status == 503
    assert not [name for name in NAMES if name in text_of(response)]


def test_metrics_that_the_operator_opens_name_the_models(tmp_path: Path):
    model = f"heron={toys.write_toy(tmp_path / 'x.onnx', toys.ADAPTIVE)}"
    with running(Settings(models=(model,), keys=ENTRY, open_metrics=True)) as opened:
        assert 'model="heron"' in opened.request("GET", "/metrics").body.decode()
