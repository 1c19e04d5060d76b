import hashlib

import pytest

from glimpse.contract.card import ContractError
from glimpse.contract.seal import SEAL_KEY, read_seal, seal


def unsealed(weights: bytes = b"weights") -> bytes:
    key = SEAL_KEY.encode()
    return weights + b"\x0a" + bytes([len(key)]) + key + b"\x12\x40" + b"0" * 64 + b"the rest"


def test_a_sealed_file_tells_its_digest_and_is_as_long_as_before():
    sealed = seal(unsealed())
    assert len(sealed) == len(unsealed())
    assert read_seal(sealed) == hashlib.sha256(unsealed()).hexdigest()


@pytest.mark.parametrize("change", [b"Weights", b"weight"])
def test_a_changed_file_is_refused(change):
    sealed = seal(unsealed()).replace(b"weights", change)
    with pytest.raises(ContractError, match=r"expected a file with the SHA-256 .*were changed.*export"):
        read_seal(sealed)


def test_a_file_without_a_seal_is_refused():
    with pytest.raises(ContractError, match=r"expected a file with a seal .*found none; export"):
        read_seal(b"weights")
