"""API keys: stored as hashes, each with a name, revocable while the service runs.

A key is 256 random bits, so its SHA-256 can't be guessed and needs no slow hash. A slow hash would let any client keep
the processor busy by sending wrong keys.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import shlex
import stat
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_RATE = re.compile(r"rate=(\d{1,9}(?:\.\d{1,9})?)")
_OTHERS = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
"""Permissions that a file with secrets should not give."""

_log = logging.getLogger(__name__)


class KeyFileError(ValueError):
    """A key file or key entries that can't be read."""


class Key(NamedTuple):
    """An API key."""

    name: str
    """Its name in the logs."""
    digest: bytes
    """SHA-256 of the key."""
    rate: float | None
    """Its own limit, requests a second; None for the limit of the service."""


class KeyRing:
    """The known API keys.

    An entry is ``NAME sha256:HEX``, followed by ``rate=N`` for a limit of its own; in a file, ``#`` starts a comment.

    Args:
        file: Path of a file of entries, one a line; empty for none.
        entries: Further entries, separated by commas or line ends.

    Raises:
        KeyFileError: When the file can't be read, or an entry is malformed.
    """

    def __init__(self, file: str = "", entries: str = "") -> None:
        self._file = Path(file) if file else None
        self._static_keys = read_entries(entries.replace(",", "\n"), "the keys that were given")
        self._signature: tuple[int, ...] | None = None
        self._reported = ""
        self._last_signature: tuple[int, ...] | None = None
        self._keys = list(self._static_keys)
        if self._file is not None:
            self._signature = _signature(self._file)
            self._keys = self._static_keys + self._read(self._file)
        _check_names(self._keys)
        self.required = self._file is not None or bool(self._static_keys)
        """Whether requests need a key. It stays true when the last key is revoked."""

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._keys)

    def find(self, secret: str) -> Key | None:
        """Find the key of a secret, in constant time; None for an unknown secret.

        Args:
            secret: The secret that a client sent.
        """
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def refresh(self) -> None:
        """Read the file again if it has changed, and not since the last call: it may still be written.

        A file that can't be read is logged, and the keys stay as they were.
        """
        if self._file is None:
            return
        signature, before = _signature(self._file), self._last_signature
        self._last_signature = signature
        if signature == self._signature and signature:
            self._reported = ""
            return
        if signature != before and signature:
            return  # it may still be written; wait for the next call
        try:
            keys = self._static_keys + self._read(self._file)
            _check_names(keys)
        except KeyFileError as error:
            if str(error) != self._reported:
                _log.error("the keys stay as they were: %s", error)
            self._reported = str(error)
            return
        self._keys, self._signature, self._reported = keys, signature, ""
        _log.info("%d keys are known now", len(keys))

    def _read(self, file: Path) -> list[Key]:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no UTF-8"
            raise KeyFileError(
                f"can't read the file of keys {str(file)!r} ({why}); check its path and permissions"
            ) from error
        return read_entries(text, repr(str(file)))


def read_entries(text: str, name: str) -> list[Key]:
    """Parse entries of keys.

    Args:
        text: Entries, one a line.
        name: The text's name in error messages.

    Raises:
        KeyFileError: When a line is malformed. The message shows no part of the line, which may hold a secret.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        digest = _HASH.fullmatch(fields[1]) if len(fields) in (2, 3) else None
        rate = _RATE.fullmatch(fields[2]) if len(fields) == 3 else None
        if not _NAME.fullmatch(fields[0]) or digest is None or (len(fields) == 3 and rate is None):
            raise KeyFileError(
                f"expected 'NAME sha256:HEX' or 'NAME sha256:HEX rate=N' in line {number} of {name}, got something "
                "else; 'glimpse serve --make-key NAME' makes such lines"
            )
        keys.append(Key(fields[0], bytes.fromhex(digest.group(1)), float(rate.group(1)) if rate else None))
    return keys


def exposure_warnings(*files: str) -> list[str]:
    """Say which files with secrets other users of the machine can read or change.

    A file that belongs to somebody else, as one that a cluster mounts, is read as one of its group.

    Args:
        files: Paths of the files, such as those of the API keys and the TLS key; empty for none. A link is followed.

    Returns:
        A sentence for each file that users beyond these can read or write, with the command that changes it.
    """
    sentences = []
    for file in dict.fromkeys(filter(None, files)):
        try:
            status = Path(file).stat()
        except OSError:
            continue  # whoever reads it reports that
        mode = stat.S_IMODE(status.st_mode)
        right = 0o600 if status.st_uid == os.geteuid() else 0o640
        if mode & _OTHERS & ~right:
            sentences.append(
                f"expected {str(file)!r}, which holds secrets, with mode {right:o} or less, got mode {mode:o}, which "
                f"lets other users read or change it; run: chmod {right:o} {shlex.quote(file)}"
            )
    return sentences


def make_key(name: str) -> tuple[str, str]:
    """Make a new key.

    Args:
        name: Its name in the logs: letters, digits, ``.``, ``_`` and ``-``.

    Returns:
        The secret for the client, and the entry for the key file.

    Raises:
        KeyFileError: When the name has other characters.
    """
    if not _NAME.fullmatch(name):
        raise KeyFileError(
            f"expected a key's name of letters, digits, '.', '_' and '-', got {name!r:.80}; choose another"
        )
    secret = f"glimpse_{secrets.token_urlsafe(32)}"
    return secret, f"{name} sha256:{hashlib.sha256(secret.encode()).hexdigest()}"


def _check_names(keys: list[Key]) -> None:
    names = [key.name for key in keys]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise KeyFileError(
            f"expected each key under a name of its own, got {', '.join(duplicates)} more than once; rename one"
        )
    if len({key.digest for key in keys}) < len(keys):
        raise KeyFileError("expected each key once, got one under two names, so that it outlives a name; drop one")


def _signature(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
