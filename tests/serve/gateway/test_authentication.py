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
    security_headers,
)
from glimpse_serve.gateway.rate_limits import RateLimiter
from glimpse_serve.settings import Settings
from tests.support.service import running, toy_files

SECRET, ENTRY = make_key("alice")


def keeper(settings: Settings = Settings(), entries: str = ENTRY) -> Authenticator:  # noqa: B008 - it can't be changed
    return Authenticator(KeyRing("", entries), RateLimiter(), settings)


def scope(path: str = "/v1/models", address: str = "10.0.0.1", kind: str = "http", **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": kind, "path": path, "client": (address, 5), "headers": named}


@pytest.mark.parametrize(
    "headers", [{"authorization": f"Bearer {SECRET}"}, {"authorization": f"bearer  {SECRET} "}, {"x_api_key": SECRET}]
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_who_has_a_key_comes_in(headers, kind):
    assert keeper().admit(scope(kind=kind, **headers)) == Caller("alice")


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
def test_who_has_none_stays_out_and_is_told_how_to_bring_one(headers):
    with pytest.raises(HTTPError, match="expected an API key as 'Authorization: Bearer KEY'") as refused:
        keeper().admit(scope(**headers))
    assert (refused.value.status, refused.value.headers) == (401, {"WWW-Authenticate": 'Bearer realm="glimpse"'})
    assert SECRET not in refused.value.sentence


@pytest.mark.parametrize(
    "path", ["/v2/health/live", "/v2/health/ready", "/v2/models/a/ready", "/v2/models/a/versions/1/ready"]
)
def test_balancers_need_no_key(path):
    assert keeper().admit(scope(path)) == Caller()


@pytest.mark.parametrize(
    "path", ["/v2/health/live/", "/v2/models/a/b/ready", "/v2/models/a", "/metrics", "/v2/health/x", "/"]
)
def test_nothing_else_is_open(path):
    with pytest.raises(HTTPError):
        keeper().admit(scope(path))


def test_metrics_can_be_opened():
    assert keeper(Settings(open_metrics=True)).admit(scope("/metrics")) == Caller()


def test_without_keys_everybody_comes_in_at_the_rate_of_his_address():
    doors = keeper(Settings(rate=0.1, burst=2), "")
    for address in ("10.0.0.1", "10.0.0.2"):
        for _ in range(2):
            assert doors.admit(scope(address=address)) == Caller()
        with pytest.raises(HTTPError, match=r"at most 0\.1 requests a second and 2 at once") as refused:
            doors.admit(scope(address=address))
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) in (9, 10)
    assert doors.admit(scope("/v2/health/ready")) == Caller()
    assert keeper(entries="").admit({"type": "http", "path": "/", "client": None, "headers": []}) == Caller()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:2"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::2"),
        ("odd:", "odd:"),
    ],
)
def test_who_has_many_addresses_has_one_share(one, other):
    doors = keeper(Settings(rate=0.001, burst=1), "")
    doors.admit(scope(address=one))
    with pytest.raises(HTTPError, match="requests a second"):
        doors.admit(scope(address=other))
    doors.admit(scope(address="2001:db9::1"))


def test_a_key_may_have_a_rate_of_its_own():
    doors = keeper(Settings(rate=1000.0, burst=1), f"{ENTRY} rate=0.001")
    doors.admit(scope(x_api_key=SECRET))
    with pytest.raises(HTTPError, match=r"at most 0\.001 requests"):
        doors.admit(scope(address="10.9.9.9", x_api_key=SECRET))


def test_who_tries_keys_is_slowed_down_and_others_are_not():
    doors = keeper()
    statuses = []
    for number in range(30):
        with pytest.raises(HTTPError) as refused:
            doors.admit(scope(x_api_key=f"guess {number}"))
        statuses.append(refused.value.status)
    assert statuses[:10] == [401] * 10
    assert set(statuses[12:]) == {429}
    assert doors.admit(scope(x_api_key=SECRET)) == Caller("alice")
    with pytest.raises(HTTPError) as refused:
        doors.admit(scope(address="10.0.0.2"))
    assert refused.value.status == 401


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


def test_doors_that_stand_open_keep_it_from_starting():
    check_access(Settings(), KeyRing())
    check_access(Settings(host="0.0.0.0", allow_anonymous=True), KeyRing())
    check_access(Settings(host="0.0.0.0"), KeyRing("", ENTRY))
    with pytest.raises(AccessError, match=r"--keys-file, listen at 127\.0\.0\.1, or say --allow-anonymous"):
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


def test_browsers_are_told_to_be_careful():
    plain, safe = dict(security_headers(Settings())), dict(security_headers(Settings(tls_certificate="x")))
    assert plain[b"x-content-type-options"] == b"nosniff"
    assert b"script" not in plain[b"content-security-policy"]
    assert b"strict-transport-security" not in plain
    assert b"strict-transport-security" in safe


def test_only_the_pages_that_were_named_may_call(tmp_path):
    models = toy_files(tmp_path)[:1]
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "x-api-key"}
    with running(Settings(models=models, keys=ENTRY, cors=("https://good.org",))) as service:
        got = service.ask("OPTIONS", "/v1/classify", Origin="https://good.org", **asked)
        assert (got.status, got.headers["access-control-allow-origin"]) == (200, "https://good.org")
        got = service.ask("GET", "/v1/models", Origin="https://good.org", X_API_Key=SECRET)
        assert (got.status, got.headers["access-control-allow-origin"]) == (200, "https://good.org")
        assert service.ask("GET", "/v1/models", Origin="https://good.org").status == 401
        got = service.ask("OPTIONS", "/v1/classify", Origin="https://evil.org", **asked)
        assert "access-control-allow-origin" not in got.headers
        assert got.status == 400
        assert got.error == "expected a call that is allowed to other origins (--cors), got Disallowed CORS origin"
    with running(Settings(models=models)) as service:
        got = service.ask("OPTIONS", "/v1/classify", Origin="https://good.org", **asked)
        assert (got.status, "access-control-allow-origin" in got.headers) == (405, False)
