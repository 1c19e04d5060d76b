"""The seal: the SHA-256 of an exported file, stored in the file."""

import hashlib

from glimpse.contract.card import _AGAIN, ContractError

SEAL_KEY = "glimpse.sha256"


def seal(file: bytes) -> bytes:
    """Write a file's SHA-256 into it.

    Args:
        file: An ONNX file with an entry ``SEAL_KEY`` in its metadata, whose value are 64 zeros.

    Raises:
        ContractError: When it has no such entry.
    """
    place = _seal_at(file)
    return file[:place] + hashlib.sha256(file).hexdigest().encode() + file[place + _DIGITS :]


def read_seal(file: bytes) -> str:
    """Return the SHA-256 that a file carries, after checking that it is that of the file.

    It is that of the file with 64 zeros in its own place.

    Args:
        file: An ONNX file that :func:`seal` has sealed.

    Raises:
        ContractError: When it carries none, or it is that of another file: something in it was changed.
    """
    place = _seal_at(file)
    unsealed = hashlib.sha256(file[:place])
    unsealed.update(b"0" * _DIGITS)
    unsealed.update(memoryview(file)[place + _DIGITS :])
    carried, found = file[place : place + _DIGITS].decode("ascii", "replace"), unsealed.hexdigest()
    if carried != found:
        raise ContractError(
            f"expected a file with the SHA-256 {carried[:12]}..., as its seal states, got one with {found[:12]}...: "
            "its weights or its card were changed, or it was cut short; copy it again, or export the model again"
        )
    return found


def _seal_at(file: bytes) -> int:
    """Where the digits of a file's seal begin: an entry of its metadata, as protobuf lays it out."""
    if file.count(_SEAL) != 1:
        raise ContractError(f"expected a file with a seal (metadata key {SEAL_KEY!r}), found none; {_AGAIN}")
    return file.index(_SEAL) + len(_SEAL)


_DIGITS = 64

_SEAL = b"\x0a" + bytes([len(SEAL_KEY)]) + SEAL_KEY.encode() + b"\x12" + bytes([_DIGITS])
