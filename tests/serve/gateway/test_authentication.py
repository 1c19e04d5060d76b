import subprocess
from pathlib import Path
from typing import Any

import pytest

from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway.api_keys import KeyRing, make_key
from glimpse_serve.gateway.authentication import (
    AccessError,
    Authenticator,
    Caller,
    check_access,
    is_loopback,
)
from glimpse_serve.gateway.rate_limits import RateLimiter
from glimpse_serve.settings import Settings
from tests.support.service import running, toy_files

SECRET, ENTRY = make_key("alice")


def make_authenticator(settings: Settings = Settings(), entries: str = ENTRY) -> Authenticator:  # noqa: B008 - it can't be changed
    return Authenticator(KeyRing("", entries), RateLimiter(), settings)


def scope(path: str = "/v1/models", address: str = "10.0.0.1", kind: str = "http", **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": kind, "path": path, "client": (address, 5), "headers": named}


@pytest.mark.parametrize(
    "headers", [{"authorization": f"Bearer {SECRET}"}, {"authorization": f"bearer  {SECRET} "}, {"x_api_key": SECRET}]
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_known_key_is_accepted(headers, kind):
    assert make_authenticator().authenticate(scope(kind=kind, **headers)) == Caller("alice")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {SECRET}"},
        {"x_api_key": ""},
        {"x_api_key": "\xff"},
    ],
)
def test_a_missing_or_unknown_key_is_an_error_that_says_how_to_send_one(headers):
    with pytest.raises(HTTPError, match="expected an API key as 'Authorization: Bearer KEY'") as error:
        make_authenticator().authenticate(scope(**headers))
    assert (error.value.status, error.value.headers) == (401, {"WWW-Authenticate": 'Bearer realm="glimpse"'})
    assert SECRET not in error.value.message


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_balancers_need_no_key(path):
    assert make_authenticator().authenticate(scope(path)) == Caller()


@pytest.mark.parametrize(
    "path",
    [
        "/v2/health/live/",
        "/v2/models/a/ready",
        "/v2/models/a/versions/1/ready",
        "/v2/models/a/b/ready",
        "/v2/models/a",
        "/metrics",
        "/v2/health/x",
        "/",
    ],
)
def test_nothing_else_is_open(path):
    with pytest.raises(HTTPError):
        make_authenticator().authenticate(scope(path))


def test_metrics_can_be_opened():
    assert make_authenticator(Settings(open_metrics=True)).authenticate(scope("/metrics")) == Caller()


def test_without_keys_the_rate_limit_holds_for_each_address():
    authenticator = make_authenticator(Settings(rate=0.1, burst=2), "")
    for address in ("10.0.0.1", "10.0.0.2"):
        for _ in range(2):
            assert authenticator.authenticate(scope(address=address)) == Caller()
        with pytest.raises(HTTPError, match=r"at most 0\.1 requests a second and 2 at once") as error:
            authenticator.authenticate(scope(address=address))
        assert error.value.status == 429
        assert int(error.value.headers["Retry-After"]) in (9, 10)
    assert authenticator.authenticate(scope("/v2/health/ready")) == Caller()
    assert (
        make_authenticator(entries="").authenticate({"type": "http", "path": "/", "client": None, "headers": []})
        == Caller()
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:2"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::2"),
        ("odd:", "odd:"),
    ],
)
def test_the_addresses_of_a_network_share_a_limit(one, other):
    authenticator = make_authenticator(Settings(rate=0.001, burst=1), "")
    authenticator.authenticate(scope(address=one))
    with pytest.raises(HTTPError, match="requests a second"):
        authenticator.authenticate(scope(address=other))
    authenticator.authenticate(scope(address="2001:db9::1"))


def test_a_key_may_have_a_rate_of_its_own():
    authenticator = make_authenticator(Settings(rate=1000.0, burst=1), f"{ENTRY} rate=0.001")
    authenticator.authenticate(scope(x_api_key=SECRET))
    with pytest.raises(HTTPError, match=r"at most 0\.001 requests"):
        authenticator.authenticate(scope(address="10.9.9.9", x_api_key=SECRET))


def test_wrong_keys_are_limited_for_each_address():
    authenticator = make_authenticator()
    statuses = []
    for number in range(30):
        with pytest.raises(HTTPError) as error:
            authenticator.authenticate(scope(x_api_key=f"guess {number}"))
        statuses.append(error.value.status)
    assert statuses[:10] == [401] * 10
    assert set(statuses[12:]) == {429}
    assert authenticator.authenticate(scope(x_api_key=SECRET)) == Caller("alice")
    with pytest.raises(HTTPError) as error:
        authenticator.authenticate(scope(address="10.0.0.2"))
    assert error.value.status == 401


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_a_loopback_is_known(host, loopback):
    assert is_loopback(host) is loopback


def test_other_addresses_without_keys_keep_it_from_starting():
    check_access(Settings(), KeyRing())
    check_access(Settings(host="0.0.0.0", allow_anonymous=True), KeyRing())
    check_access(Settings(host="0.0.0.0"), KeyRing("", ENTRY))
    with pytest.raises(AccessError, match=r"--keys-file, listen on 127\.0\.0\.1, or give --allow-anonymous"):
        check_access(Settings(host="0.0.0.0"), KeyRing())


def certificate(folder: Path, name: str) -> tuple[str, str]:
    key, chain = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(chain)]
    subprocess.run([*command, "-subj", "/CN=localhost", "-days", "1"], check=True, capture_output=True)
    return str(chain), str(key)


def test_a_certificate_that_does_not_fit_keeps_it_from_starting(tmp_path):
    chain, key = certificate(tmp_path, "one")
    _, other = certificate(tmp_path, "other")
    check_access(Settings(tls_certificate=chain, tls_key=key), KeyRing())
    for wrong in ((chain, other), (chain, "none"), (key, key)):
        with pytest.raises(AccessError, match="a certificate and its key, without a password"):
            check_access(Settings(tls_certificate=wrong[0], tls_key=wrong[1]), KeyRing())


def test_only_allowed_origins_may_call(tmp_path):
    models = toy_files(tmp_path)[:1]
    preflight = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "x-api-key"}
    with running(Settings(models=models, keys=ENTRY, cors=("https://good.org",))) as service:
        response = service.request("OPTIONS", "/v1/classify", Origin="https://good.org", **preflight)
        assert (response.status, response.headers["access-control-allow-origin"]) == (200, "https://good.org")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-request-id"]
        response = service.request("GET", "/v1/models", Origin="https://good.org", X_API_Key=SECRET)
        assert (response.status, response.headers["access-control-allow-origin"]) == (200, "https://good.org")
        assert service.request("GET", "/v1/models", Origin="https://good.org").status == 401
        response = service.request("OPTIONS", "/v1/classify", Origin="https://evil.org", **preflight)
        assert "access-control-allow-origin" not in response.headers
        assert response.status == 400
        assert response.error == "expected a call that is allowed to other origins (--cors), got Disallowed CORS origin"
    with running(Settings(models=models)) as service:
        response = service.request("OPTIONS", "/v1/classify", Origin="https://good.org", **preflight)
        assert (response.status, "access-control-allow-origin" in response.headers) == (405, False)
