import gzip
import zlib

import pytest

from glimpse_serve.http.compression import compress
from glimpse_serve.http.request import Response

LONG = Response(b"glimpse " * 500, headers={"X-Kind": "long"})


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("deflate;q=1, gzip;q=0.5", "deflate"),
        ("GZIP;Q=0.1", "gzip"),
        ("*", "gzip"),
        ("gzip;q=0, *", "deflate"),
        ("gzip;q=0", None),
        ("br", None),
        ("identity", None),
        ("", None),
        ("gzip;q=nonsense", None),
        (";;,,=", None),
    ],
)
def test_it_is_done_as_the_client_accepts_it(accepted, encoding):
    response = compress(LONG, accepted)
    if encoding is None:
        assert response is LONG
    else:
        assert dict(response.headers) == {"X-Kind": "long", "Content-Encoding": encoding, "Vary": "Accept-Encoding"}
        unpacked = gzip.decompress(response.body) if encoding == "gzip" else zlib.decompress(response.body)
        assert unpacked == LONG.body
        assert len(response.body) < len(LONG.body)


def test_what_is_short_is_left():
    short = Response(b"x" * 1000)
    assert compress(short, "gzip") is short
