"""API keys: known by their hashes, several, each with a name, and revocable while the service runs.

A key is 256 random bits, so its SHA-256 can't be guessed and needs no slow hash; a slow one would let anybody keep the
processor busy by sending wrong keys.
"""

import hashlib
import hmac
import logging
import re
import secrets
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_RATE = re.compile(r"rate=(\d{1,9}(?:\.\d{1,9})?)")

_log = logging.getLogger(__name__)


class KeyFileError(ValueError):
    """Entries of keys that can't be read."""


class Key(NamedTuple):
    """One key."""

    name: str
    """Under which its use is logged."""
    digest: bytes
    """SHA-256 of the key."""
    rate: float | None
    """Requests a second that are its own limit; None for that of the service."""


class KeyRing:
    """The keys that open the service.

    An entry is ``NAME sha256:HEX``, with ``rate=N`` behind it for a limit of its own; in a file, ``#`` begins a remark.

    Args:
        file: A file of entries, one a line; empty for none.
        entries: Further entries, ended by commas or line ends.

    Raises:
        KeyFileError: When the file can't be read, or an entry is none.
    """

    def __init__(self, file: str = "", entries: str = "") -> None:
        self._file = Path(file) if file else None
        self._given = read_entries(entries.replace(",", "\n"), "the keys that were given")
        self._signature: tuple[int, ...] | None = None
        self._told = ""
        self._seen: tuple[int, ...] | None = None
        self._keys = list(self._given)
        if self._file is not None:
            self._signature = _signature(self._file)
            self._keys = self._given + self._read(self._file)
        _check_names(self._keys)
        self.required = self._file is not None or bool(self._given)
        """Whether a key is wanted. It stays so when the last one was revoked."""

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._keys)

    def find(self, secret: str) -> Key | None:
        """Tell which key this is. It takes the same time whether it is one or not.

        Args:
            secret: What a client sent.
        """
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def refresh(self) -> None:
        """Read the file again if it has changed and rests: if it is as it was when last looked at.

        One that can't be read leaves the keys as they were, and is told.
        """
        if self._file is None:
            return
        signature, before = _signature(self._file), self._seen
        self._seen = signature
        if signature == self._signature and signature:
            self._told = ""
            return
        if signature != before and signature:
            return  # it may be written right now; next time it rests
        try:
            keys = self._given + self._read(self._file)
            _check_names(keys)
        except KeyFileError as error:
            if str(error) != self._told:
                _log.error("the keys stay as they were: %s", error)
            self._told = str(error)
            return
        self._keys, self._signature, self._told = keys, signature, ""
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
    """Read entries of keys.

    Args:
        text: One a line.
        name: What errors call the text.

    Raises:
        KeyFileError: When a line is none. It shows no part of the line, which may hold a secret.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        digest = _HASH.fullmatch(words[1]) if len(words) in (2, 3) else None
        rate = _RATE.fullmatch(words[2]) if len(words) == 3 else None
        if not _NAME.fullmatch(words[0]) or digest is None or (len(words) == 3 and rate is None):
            raise KeyFileError(
                f"expected 'NAME sha256:HEX' or 'NAME sha256:HEX rate=N' in line {number} of {name}, got something "
                "else; 'glimpse serve --make-key NAME' makes such lines"
            )
        keys.append(Key(words[0], bytes.fromhex(digest.group(1)), float(rate.group(1)) if rate else None))
    return keys


def make_key(name: str) -> tuple[str, str]:
    """Make a new key.

    Args:
        name: Under which its use is logged: letters, digits, ``.``, ``_`` and ``-``.

    Returns:
        The key itself, for the client, and its entry, for the file.

    Raises:
        KeyFileError: When it can't be called so.
    """
    if not _NAME.fullmatch(name):
        raise KeyFileError(
            f"expected a key's name of letters, digits, '.', '_' and '-', got {name!r:.80}; choose another"
        )
    secret = f"glimpse_{secrets.token_urlsafe(32)}"
    return secret, f"{name} sha256:{hashlib.sha256(secret.encode()).hexdigest()}"


def _check_names(keys: list[Key]) -> None:
    names = [key.name for key in keys]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise KeyFileError(
            f"expected each key under a name of its own, got {', '.join(twice)} more than once; rename one"
        )
    if len({key.digest for key in keys}) < len(keys):
        raise KeyFileError("expected each key once, got one under two names, so that it outlives a name; drop one")


def _signature(file: Path) -> tuple[int, ...] | None:
    try:
        about = file.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino
