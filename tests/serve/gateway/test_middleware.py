from collections.abc import Iterator

import pytest

from glimpse_serve.settings import Settings
from tests.support.service import Running, png, running, toy_files
from tests.support.toys import noise


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(Settings(models=toy_files(tmp_path_factory.mktemp("models")))) as made:
        yield made


def test_what_is_not_there_is_answered_in_the_form_of_all_errors(service):
    got = service.ask("GET", "/nowhere")
    assert got.status == 404
    assert got.error == "there is nothing at '/nowhere'; /docs tells what there is"
    assert got.headers["content-type"] == "application/json"


def test_a_wrong_method_is_told_the_right_ones(service):
    got = service.ask("DELETE", "/v1/models")
    assert got.status == 405
    assert got.headers["allow"] == "GET, HEAD"
    assert "GET, HEAD" in got.error
    assert service.ask("GET", "/v1/classify").headers["allow"] == "POST"


def test_head_is_get_without_the_body(service):
    got = service.ask("HEAD", "/v2/health/live")
    assert (got.status, got.body) == (200, b"")
    assert int(got.headers["content-length"]) > 0


def test_a_fault_of_ours_is_500_without_a_trace_of_the_code_and_is_logged(service, monkeypatch, caplog):
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("secret detail")

    entry = service.service.house.registry.find("adaptive")
    monkeypatch.setattr(entry.model.session, "run", broken)
    got = service.ask("POST", "/v1/classify", png(noise(20, 30, 1)), X_Request_ID="abc-1")
    assert got.status == 500
    assert "abc-1" in got.error
    assert "secret" not in got.body.decode()
    assert "secret detail" in caplog.text


def test_every_answer_has_an_id_that_its_sender_may_choose(service):
    first, second = (service.ask("GET", "/v2").headers["x-request-id"] for _ in range(2))
    assert first != second
    assert service.ask("GET", "/v2", X_Request_ID="mine-1.2_3").headers["x-request-id"] == "mine-1.2_3"
    for strange in ("a b", "x" * 129, "<script>", '"'):
        assert service.ask("GET", "/v2", X_Request_ID=strange).headers["x-request-id"] != strange


@pytest.mark.parametrize("path", ["/v2", "/nowhere", "/v1/models"])
def test_every_answer_tells_browsers_to_be_careful(service, path):
    headers = service.ask("GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers
