"""What an ONNX file says of itself, read from its bytes before any runtime gets them. Standard library only.

A runtime that opens a file reads other files that its tensors name, and allocates what they declare. So the file is
walked first. In the wire format of protocol buffers a message is a list of fields, each with a number, a type and a
length, so that what is of no interest is passed over without being read
(https://protobuf.dev/programming-guides/encoding, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from collections.abc import Iterator

from glimpse.contract.card import ContractError
from glimpse.contract.texts import visible

MAX_FILE_BYTES = 2**31 - 1
"""Bytes of a file: the most that the wire format has."""
MAX_NODES = 100_000
MAX_GRAPH_DEPTH = 16
"""Graphs within one another, as the bodies of loops are."""
MAX_FILE_FIELDS = 2_000_000
"""Fields that are read; the files that Glimpse writes have some thousands."""
DOMAINS = frozenset((b"", b"ai.onnx"))
"""Domains of operators: ONNX's own. Those of others come in libraries, which somebody has to load."""

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
"""Types of fields. There were two more, of groups, which no version of ONNX has had."""
_MODEL, _FUNCTION, _TRAINING, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE_TENSOR, _METADATA = (
    "ModelProto",
    "FunctionProto",
    "TrainingInfoProto",
    "GraphProto",
    "NodeProto",
    "AttributeProto",
    "TensorProto",
    "SparseTensorProto",
    "StringStringEntryProto",
)
_MESSAGES: dict[str, dict[int, str]] = {
    _MODEL: {7: _GRAPH, 14: _METADATA, 20: _TRAINING, 25: _FUNCTION},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE_TENSOR},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE_TENSOR, 23: _SPARSE_TENSOR},
    _TENSOR: {},
}
"""The fields of each message, by number, that are messages and may lead to a tensor or a node."""
_NODE_DOMAIN, _EXTERNAL_DATA, _DATA_LOCATION, _KEY, _VALUE = 7, 13, 14, 1, 2
"""Numbers of fields: a node's domain; where a tensor's data lie, and whether in another file; an entry's parts."""


def read_metadata(file: bytes) -> dict[str, str]:
    """Return the metadata of an ONNX file, after a walk through all its graphs, functions and tensors.

    Args:
        file: The file's bytes.

    Raises:
        ContractError: When it is no ONNX file or is damaged; when a tensor's data lie in another file, a tensor is
            sparse, or an operator is none of ONNX's own; when it has too many nodes, fields, or graphs within one
            another; when a key is there twice, or a key or value is no UTF-8.
    """
    walk = _Walk(file)
    walk.message(_MODEL, 0, len(file), 0)
    if not walk.has_graph:
        raise _damaged(0)
    return walk.metadata


class _Walk:
    """A walk through the messages of a file.

    Args:
        file: The file's bytes.
    """

    def __init__(self, file: bytes) -> None:
        self._file = file
        self._fields = self._nodes = 0
        self.metadata: dict[str, str] = {}
        self.has_graph = False

    def message(self, kind: str, start: int, end: int, depth: int) -> None:
        """Look at a message, and at those within it.

        Args:
            kind: Its type.
            start: Index of its first byte.
            end: Index after its last byte.
            depth: Graphs around it.
        """
        if kind == _SPARSE_TENSOR:
            raise ContractError("expected tensors that hold all their numbers, got a sparse one; export it again")
        if kind == _METADATA:
            self._entry(start, end)
            return
        self._nodes += kind == _NODE
        if kind == _GRAPH:
            self.has_graph = True
            depth += 1
        if self._nodes > MAX_NODES or depth > MAX_GRAPH_DEPTH:
            raise ContractError(
                f"expected at most {MAX_NODES:,} nodes and {MAX_GRAPH_DEPTH} graphs within one another, got more; "
                "use a smaller model"
            )
        within = _MESSAGES[kind]
        for number, first, after in self._fields_of(start, end):
            if number in within and first >= 0:
                self.message(within[number], first, after, depth)
            elif kind == _TENSOR and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and after)):
                raise ContractError(
                    "expected a file that holds all its numbers, got one whose tensors lie in another file; save it as "
                    "one file, or export the model again"
                )
            elif kind == _NODE and number == _NODE_DOMAIN and first >= 0 and self._file[first:after] not in DOMAINS:
                domain = self._file[first:after].decode("utf-8", "surrogateescape")
                raise ContractError(
                    f"expected operators of ONNX itself, got one of the domain {visible(repr(domain), 80)}; export the "
                    "model again"
                )

    def _entry(self, start: int, end: int) -> None:
        parts = {number: self._file[first:after] for number, first, after in self._fields_of(start, end) if first >= 0}
        try:
            key, value = (parts.get(number, b"").decode() for number in (_KEY, _VALUE))
        except UnicodeDecodeError as error:
            raise ContractError("expected metadata in UTF-8, got other bytes; export the model again") from error
        if key in self.metadata:
            raise ContractError(
                f"expected each key of the metadata once, got {visible(repr(key), 80)} twice; export the model again"
            )
        self.metadata[key] = value

    def _fields_of(self, place: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Each field's number, and where its bytes begin and end; of a number -1 and its value, if it is one."""
        file = self._file
        while place < end:
            self._fields += 1
            if self._fields > MAX_FILE_FIELDS:
                raise ContractError(f"expected at most {MAX_FILE_FIELDS:,} fields, got more; use a smaller model")
            tag, place = self._varint(place, end, 5)
            kind = tag & 7
            if kind == _LENGTH:
                length, place = self._varint(place, end, 5)
                first, place = place, place + length
                found = tag >> 3, first, place
            elif kind == _VARINT:
                value, place = self._varint(place, end, 10)
                found = tag >> 3, -1, value
            elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
                place += 8 if kind == _EIGHT_BYTES else 4
                found = tag >> 3, -1, 0
            else:
                raise _damaged(place)
            if place > end or not tag >> 3:
                raise _damaged(min(place, len(file)))
            yield found

    def _varint(self, place: int, end: int, longest: int) -> tuple[int, int]:
        """The number that begins at a place, seven bits in a byte, lowest first, and the place after it."""
        value, file = 0, self._file
        for count in range(longest):
            if place >= end:
                break
            byte = file[place]
            place += 1
            value |= (byte & 127) << 7 * count
            if byte < 128:
                return value, place
        raise _damaged(place)


def _damaged(place: int) -> ContractError:
    return ContractError(f"it is no ONNX file, or damaged at byte {place:,}")
