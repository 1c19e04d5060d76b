from collections.abc import Iterator

import pytest

from glimpse_serve.settings import Settings
from tests.support.service import Running, png, running, toy_files
from tests.support.toys import noise


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(Settings(models=toy_files(tmp_path_factory.mktemp("models")))) as made:
        yield made


def test_an_unknown_path_gets_an_error_in_json(service):
    response = service.request("GET", "/nowhere")
    assert response.status == 404
    assert response.error == "there is nothing at '/nowhere'; /docs lists what there is"
    assert response.headers["content-type"] == "application/json"


def test_an_error_of_the_method_lists_the_allowed_ones(service):
    response = service.request("DELETE", "/v1/models")
    assert response.status == 405
    assert response.headers["allow"] == "GET, HEAD"
    assert "GET, HEAD" in response.error
    assert service.request("GET", "/v1/classify").headers["allow"] == "POST"


def test_head_is_get_without_the_body(service):
    response = service.request("HEAD", "/v2/health/live")
    assert (response.status, response.body) == (200, b"")
    assert int(response.headers["content-length"]) > 0


def test_an_internal_error_is_500_without_details_and_is_logged(service, monkeypatch, caplog):
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("secret detail")

    entry = service.service.context.registry.find("adaptive")
    monkeypatch.setattr(entry.model.session, "run", broken)
    response = service.request("POST", "/v1/classify", png(noise(20, 30, 1)), X_Request_ID="abc-1")
    assert response.status == 500
    assert "abc-1" in response.error
    assert "secret" not in response.body.decode()
    assert "secret detail" in caplog.text


def test_every_response_has_a_request_id_that_the_client_may_choose(service):
    first, second = (service.request("GET", "/v2").headers["x-request-id"] for _ in range(2))
    assert first != second
    assert service.request("GET", "/v2", X_Request_ID="mine-1.2_3").headers["x-request-id"] == "mine-1.2_3"
    for strange in ("a b", "x" * 129, "<script>", '"'):
        assert service.request("GET", "/v2", X_Request_ID=strange).headers["x-request-id"] != strange


@pytest.mark.parametrize("path", ["/v2", "/nowhere", "/v1/models"])
def test_every_response_has_the_security_headers(service, path):
    headers = service.request("GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers
