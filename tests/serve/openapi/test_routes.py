"""The routes of the description."""

import gzip
import json

import pytest

from glimpse_serve.gateway.api_keys import make_key
from glimpse_serve.settings import Settings
from tests.support.service import running, toy_files


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with running(Settings(models=toy_files(tmp_path_factory.mktemp("models")))) as made:
        yield made


def test_the_root_redirects_to_the_page(service):
    response = service.request("GET", "/")
    assert response.status == 307
    assert response.headers["location"] == "/docs"


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json"])
def test_parameters_are_rejected(service, path):
    assert service.request("GET", f"{path}?x=1").error.startswith("expected no parameters here, got 'x'")


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_they_are_compressed_for_clients_that_accept_it(service, path):
    packed = service.request("GET", path, Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == service.request("GET", path).body
    assert len(packed.body) * 2 < len(gzip.decompress(packed.body))


def test_with_keys_the_documentation_states_it_and_needs_one(tmp_path):
    secret, entry = make_key("me")
    with running(Settings(models=toy_files(tmp_path), keys=entry)) as made:
        assert made.request("GET", "/docs").status == made.request("GET", "/openapi.json").status == 401
        described = json.loads(made.request("GET", "/openapi.json", X_API_Key=secret).body)
        assert described["paths"]["/v1/classify"]["post"]["security"] == [{"bearer": []}, {"key": []}]
        page = made.request("GET", "/docs", X_API_Key=secret).body.decode()
        assert "Needs an API key." in page
        assert "X-API-Key: $GLIMPSE_KEY" in page
