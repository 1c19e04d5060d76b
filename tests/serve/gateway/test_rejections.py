import json

from glimpse_serve.gateway.rejections import received_request_id, rejection, response_headers, security_headers
from glimpse_serve.settings import Settings


def test_security_headers():
    plain, safe = dict(security_headers(Settings())), dict(security_headers(Settings(tls_certificate="x")))
    assert plain[b"x-content-type-options"] == b"nosniff"
    assert b"script" not in plain[b"content-security-policy"]
    assert b"strict-transport-security" not in plain
    assert b"strict-transport-security" in safe


def test_an_id_that_is_valid_is_kept():
    assert received_request_id([(b"x-request-id", b"mine-1")]) == "mine-1"
    assert received_request_id([(b"x-request-id", b"\xff")]) != received_request_id([])
    assert response_headers([], "mine-1") == [(b"x-request-id", b"mine-1")]


def test_a_rejection_is_a_whole_response_with_all_headers():
    head, _, body = rejection(418, "tea", Settings(), [(b"x-request-id", b"a")], [(b"retry-after", b"1")]).partition(
        b"\r\n\r\n"
    )
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 418 I'm a Teapot"
    assert {b"connection: close", b"retry-after: 1", b"x-request-id: a", b"x-content-type-options: nosniff"} <= {*lines}
    assert b"content-length: %d" % len(body) in lines
    assert json.loads(body) == {"error": "tea"}
