"""The bytes of one request on its connection: how far the parser may be fed at once, and how many of each kind came.

llhttp parses all bytes that it is given, a request behind the first one included, and limits none of them. So it is fed
in pieces that end where a head, a body or a chunked body ends (RFC 9112, 2.1 and 7.1), and each piece is counted.
"""

PIECE_BYTES = 2**10
"""Longest piece where the end of the part is not known in advance."""
MAX_HEADER_BYTES = 2**16
"""Longest head of a request: empty lines before it, request line, headers."""
MAX_HEADERS = 256
"""Most headers of a request: each takes some hundred bytes of memory, however short it is."""
MAX_TRAILER_BYTES = 2**13
"""Most bytes without content at one place of a chunked body: the extensions of a chunk, or the trailers."""
MAX_FRAMING_BYTES = 2**16
"""Most bytes without content in all of a chunked body, beside those that chunks of one byte need."""
SMALLEST_CHUNK_BYTES = 9
"""Bytes that a chunk with one byte of content may take, a short extension included."""
_END = b"\r\n\r\n"


class RequestBytes:
    """Counts the bytes of one request.

    Attributes:
        in_head: Whether its head has not ended.
        head: Bytes of the head so far.
        headers: Headers so far.
        left: Bytes of the body that have not come; None for a chunked body.
    """

    __slots__ = ("_blank", "_content", "_framing", "_raw", "_tail", "head", "headers", "in_head", "left")

    def __init__(self) -> None:
        self.in_head = True
        self.head = self.headers = 0
        self.left: int | None = 0
        self._raw = self._content = self._framing = 0
        self._tail = b""
        self._blank = True

    @property
    def body_length_known(self) -> bool:
        """Whether the next bytes are a body of a known length, which costs the same in pieces of any size."""
        return bool(self.left) and not self.in_head

    def next_piece(self, data: bytes | memoryview, start: int) -> int:
        """Count the next piece, and return where it ends: at the latest where the part of the request may end.

        Args:
            data: Received bytes.
            start: Where the piece begins.
        """
        if self.body_length_known:
            end = min(len(data), start + (self.left or 0))
            self.left = (self.left or 0) - (end - start)
            return end
        window = self._tail + data[start : start + PIECE_BYTES]
        begin = 0
        if self._blank:  # empty lines before a head don't end it
            content = window.lstrip(b"\r\n")
            begin, self._blank = len(window) - len(content), not content
        found = window.find(_END, begin)
        if found >= 0:
            window = window[: found + len(_END)]
        size = len(window) - len(self._tail)
        self._tail = window[1 - len(_END) :]
        if self.in_head:
            self.head += size
        else:
            self._raw += size
            self._framing += size
        return start + size

    def end_head(self, length: int | None) -> None:
        """The head has ended.

        Args:
            length: Bytes of the body; None for a chunked one.
        """
        self.in_head, self.left, self._tail, self._blank = False, length, b"", False

    def add_content(self, size: int) -> None:
        """Count content of the body, which is among the bytes of a piece."""
        self._content += size
        self._framing = 0

    @property
    def too_many_headers(self) -> bool:
        """Whether the head is too long, or has too many headers."""
        return self.head > MAX_HEADER_BYTES or self.headers > MAX_HEADERS

    @property
    def too_much_framing(self) -> bool:
        """Whether a chunked body has too many bytes that are no content."""
        without_content = self._raw - SMALLEST_CHUNK_BYTES * self._content
        return self._framing > MAX_TRAILER_BYTES or without_content > MAX_FRAMING_BYTES
