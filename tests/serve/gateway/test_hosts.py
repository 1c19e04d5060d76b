import pytest

from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway.hosts import HostCheck
from glimpse_serve.settings import Settings


def status(settings: Settings, *hosts: str, version: str = "1.1") -> int:
    headers = [(b"host", host.encode()) for host in hosts] + [(b"x-forwarded-host", b"localhost")]
    try:
        HostCheck(settings).check({"headers": headers, "http_version": version})
    except HTTPError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "localhost.",
        "app.localhost:1",
        "127.0.0.1",
        "127.8.9.1:80",
        "[::1]:8000",
        "10.1.2.3:8",
    ],
)
def test_names_of_this_machine_and_addresses_are_allowed(host):
    assert status(Settings(), host) == 200


@pytest.mark.parametrize(
    "host", ["rebound.example:8000", "localhost.example.org", "notlocalhost", "2130706433", "127.1", "0x7f000001", "x"]
)
def test_other_names_are_not(host):
    assert status(Settings(), host) == 421


@pytest.mark.parametrize("hosts", [(), ("localhost", "localhost"), ("",), ("a b",), ("a@localhost",), ("localhost:x",)])
def test_there_is_exactly_one_valid_host(hosts):
    assert status(Settings(), *hosts) == 400
    assert status(Settings(host="0.0.0.0"), *hosts) == 400


def test_http_1_0_needs_none():
    assert status(Settings(), version="1.0") == 200
    assert status(Settings(), "rebound.example", version="1.0") == 421


def test_names_that_are_given_are_allowed():
    settings = Settings(allowed_hosts=("glimpse.example.org", ".cluster.local"))
    assert [status(settings, host) for host in ("Glimpse.example.org:80", "a.b.cluster.local", "other.org")] == [
        200,
        200,
        421,
    ]
    assert status(settings, "cluster.local.evil.org") == 421
    assert status(Settings(allowed_hosts=("*",)), "other.org") == 200


def test_the_name_that_is_listened_on_is_allowed():
    settings = Settings(host="printer.example.org")
    assert (status(settings, "printer.example.org:8000"), status(settings, "other.org")) == (200, 421)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_on_all_addresses_names_are_checked_only_if_they_are_given(host):
    assert status(Settings(host=host), "glimpse.default.svc") == 200
    settings = Settings(host=host, allowed_hosts=(".svc",))
    assert [status(settings, each) for each in ("glimpse.default.svc", "10.0.0.7:8000", "rebound.example")] == [
        200,
        200,
        421,
    ]
