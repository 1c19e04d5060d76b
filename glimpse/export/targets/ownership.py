"""Files that Glimpse wrote for a model server are recognised, so that no file of the user's is replaced.

A file that may be replaced begins with a mark: a comment with the SHA-256 of the rest.
"""

import hashlib
from pathlib import Path

from glimpse.contract.card import ContractError
from glimpse.contract.seal import read_seal

_MARK = "# Written by Glimpse. SHA-256 of what follows: "
_AGAIN = "export the model again with this version of Glimpse"


class DeploymentError(ValueError):
    """A deployment that can't be described, or that would replace a file that Glimpse did not write."""


def seal_of(model: Path) -> str:
    """The SHA-256 of an exported file, after it was compared with the one that the file carries.

    Args:
        model: The file.

    Raises:
        ContractError: When it can't be read, is not sealed, or was changed after it was.
    """
    try:
        return read_seal(model.read_bytes())
    except OSError as error:
        raise ContractError(f"can't read the model {str(model)!r} ({error.strerror}); {_AGAIN}") from error


def marked(text: str) -> str:
    """Put the mark above a text, as a comment both in YAML and in protobuf's text form.

    Args:
        text: What is to be written.
    """
    return f"{_MARK}{digest_of(text.encode())}\n{text}"


def check_ours(path: Path) -> None:
    """Reject a file that Glimpse did not write, or that was edited since.

    Args:
        path: The file that is about to be replaced.

    Raises:
        DeploymentError: When it has no mark, its mark is that of another text, or it can't be read.
    """
    try:
        first, _, text = path.read_bytes().decode("utf-8", "replace").partition("\n")
    except OSError as error:
        raise _unreadable(path, error) from error
    if not first.startswith(_MARK):
        raise _not_ours(path)
    if f"{first}\n{text}" != marked(text):
        raise _edited(path)


def check_noted(path: Path, digest: str) -> None:
    """Reject a file that can't hold a mark, unless its digest is the one in a marked file beside it.

    Args:
        path: The file that is about to be replaced or removed.
        digest: The SHA-256 that was noted, as :func:`digest_of` returns it; empty when there was no such file.

    Raises:
        DeploymentError: When none was noted, the file is another, or it can't be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not digest:
        raise _not_ours(path)
    if digest_of(content) != digest:
        raise _edited(path)


def digest_of(content: bytes) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits.

    Args:
        content: The file's bytes.
    """
    return hashlib.sha256(content).hexdigest()


def _unreadable(path: Path, error: OSError) -> DeploymentError:
    return DeploymentError(
        f"expected {str(path)!r} to have been written by Glimpse, but it can't be read ({error.strerror}); "
        "choose another name, or move what is there away"
    )


def _not_ours(path: Path) -> DeploymentError:
    return DeploymentError(
        f"{str(path)!r} was not written by Glimpse, and is left alone; choose another name, or move it away"
    )


def _edited(path: Path) -> DeploymentError:
    return DeploymentError(
        f"{str(path)!r} was edited since Glimpse wrote it, and is left alone; move it away and bring your changes "
        "into the new one, or choose another name"
    )
