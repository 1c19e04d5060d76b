import pytest

from glimpse_serve.gateway.request_bytes import (
    MAX_FRAMING_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_TRAILER_BYTES,
    PIECE_BYTES,
    RequestBytes,
)


def pieces(counted: RequestBytes, data: bytes) -> list[bytes]:
    found, start = [], 0
    while start < len(data):
        end = counted.next_piece(data, start)
        found.append(data[start:end])
        start = end
    return found


def test_a_piece_ends_where_a_head_ends():
    head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert pieces(RequestBytes(), head * 3) == [head] * 3


@pytest.mark.parametrize("cut", range(1, 28))
def test_a_head_that_comes_in_two_parts_ends_at_the_same_place(cut):
    head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    counted = RequestBytes()
    first = pieces(counted, head[:cut])
    assert pieces(counted, head[cut:] + b"rest")[:1] == [head[cut:]] or cut == len(head)
    assert first == [head[:cut]]


def test_a_body_of_known_length_is_one_piece_and_nothing_behind_it_is_in_it():
    counted = RequestBytes()
    counted.end_head(5000)
    data = b"\r\n\r\n" * 2000
    assert counted.next_piece(data, 0) == 5000
    assert counted.left == 0


def test_other_pieces_are_short():
    assert [len(piece) for piece in pieces(RequestBytes(), b"x" * 2500)] == [PIECE_BYTES, PIECE_BYTES, 452]


def test_a_head_may_have_a_number_of_headers_and_no_more():
    counted = RequestBytes()
    counted.headers = MAX_HEADERS
    assert not counted.too_many_headers
    counted.headers += 1
    assert counted.too_many_headers


def test_a_head_may_have_its_limit_and_no_byte_more():
    counted = RequestBytes()
    pieces(counted, b"x" * MAX_HEADER_BYTES)
    assert not counted.too_many_headers
    pieces(counted, b"x")
    assert counted.too_many_headers


def test_bytes_without_content_are_limited_at_one_place_and_in_all():
    counted = RequestBytes()
    counted.end_head(None)
    pieces(counted, b"x" * MAX_TRAILER_BYTES)
    assert not counted.too_much_framing
    pieces(counted, b"x")
    assert counted.too_much_framing
    counted.add_content(1)
    assert not counted.too_much_framing
    for _ in range(MAX_FRAMING_BYTES // 1000):
        pieces(counted, b"x" * 1009)
        counted.add_content(1)
    assert counted.too_much_framing


def test_chunks_of_one_byte_are_not_too_much():
    counted = RequestBytes()
    counted.end_head(None)
    for _ in range(20_000):
        pieces(counted, b"1;a\r\nA\r\n")
        counted.add_content(1)
    assert not counted.too_much_framing
