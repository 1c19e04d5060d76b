"""Writing a file whole or not at all.

A file is first written as a draft, in a hidden folder beside its place, and then takes that place in one step
(``os.replace``). When writing fails or is interrupted, the draft is removed and an older file stays as it was.
"""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

_DRAFTS = ".glimpse-"
"""How the name of a folder for drafts begins."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all.

    Args:
        path: As for :func:`whole_path`.
        content: What the file is to hold; text is encoded as UTF-8, and its line ends stay as they are.

    Raises:
        OSError: As for :func:`whole_path`.
    """
    with whole_file(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for bytes that is written whole or not at all.

    Args:
        path: As for :func:`whole_path`.

    Yields:
        The open draft; its ``name`` is the draft's path.

    Raises:
        OSError: As for :func:`whole_path`.
    """
    with whole_path(path) as draft, draft.open("wb") as stream:
        yield stream


@contextmanager
def whole_text(path: Path, errors: str = "strict") -> Iterator[TextIO]:
    """Open a file for text in UTF-8 that is written whole or not at all; line ends stay as they are.

    Args:
        path: As for :func:`whole_path`.
        errors: What is done with characters that UTF-8 does not have, as for :func:`open`.

    Yields:
        The open draft.

    Raises:
        OSError: As for :func:`whole_path`.
    """
    with whole_path(path) as draft, draft.open("w", encoding="utf-8", errors=errors, newline="") as stream:
        yield stream


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """Have a file written at another path, the draft's, and move it to its own when the block ends without an error.

    Args:
        path: The file. A link stays a link, and the file that it leads to is written. A new file has the permissions
            that :func:`open` would give it, an older one keeps its own. What is no regular file, such as a pipe or
            /dev/stdout, can't be replaced, and is written directly.

    Yields:
        The draft's path, which has the same name and stands in a folder of its own; of what is written directly,
        ``path`` itself.

    Raises:
        OSError: When it can't be written; it names ``path``, and an older file is as it was.
    """
    if _is_special(path):
        yield path
        return
    place = Path(os.path.realpath(path))
    if place.exists() and not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    try:
        with draft_folder(place.parent) as folder:
            yield folder / place.name
            put_in_place(folder / place.name, place)
    except OSError as error:
        # A disk that is full is reported without a name, and a folder that is missing with that of the draft.
        unnamed = error.filename is None and error.errno is not None and not isinstance(error, BrokenPipeError)
        if unnamed or _DRAFTS in os.fsdecode(error.filename or ""):
            error.filename = str(path)
            del error.filename2
        raise


@contextmanager
def draft_folder(parent: Path) -> Iterator[Path]:
    """Make a hidden folder for drafts, and remove it with all that is still in it when the block ends.

    Args:
        parent: The folder that the drafts are to be moved into, and so on the same file system.
    """
    with tempfile.TemporaryDirectory(dir=parent, prefix=_DRAFTS) as folder:
        yield Path(folder)


def remove_drafts(parent: Path) -> None:
    """Remove the drafts that processes have left behind that were killed.

    Args:
        parent: A folder into which nobody else writes now.
    """
    for folder in parent.glob(f"{_DRAFTS}*"):
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(draft: Path, place: Path) -> None:
    """Move a draft to its place in one step, once all of it is on the disk.

    Args:
        draft: A file, or a folder of files.
        place: Its path, on the same file system. A file that is there is replaced and hands on its permissions; there
            must be no folder.
    """
    for part in (draft, *draft.rglob("*")):
        if part.is_file():
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
    if place.is_file() and (mode := stat.S_IMODE(place.stat().st_mode)) != stat.S_IMODE(draft.stat().st_mode):
        draft.chmod(mode)
    draft.replace(place)


def write_problem(path: Path) -> str | None:
    """Return the reason why a file can't be written, None if it can; nothing is created.

    Args:
        path: The file.

    Returns:
        A sentence with what was expected, what was found and what to do; None when nothing is in the way.
    """
    place = Path(os.path.realpath(path))
    try:
        special = _is_special(path)
    except IsADirectoryError:
        found, advice = "which is a folder", "name a file in it"
    except OSError as error:
        loop = error.errno == errno.ELOOP
        found = "which is a link that leads to itself" if loop else f"which can't be opened ({error.strerror})"
        advice = "name another file"
    else:
        folder = place.parent if path.is_symlink() else path.parent
        if not special and not folder.is_dir():
            found = f"whose folder {str(folder)!r} does not exist"
            advice = "make the folder first, or name another file"
        elif (path.exists() and not os.access(path, os.W_OK)) or not (special or os.access(place.parent, os.W_OK)):
            found, advice = "which you have no permission to write", "name another file"
        else:
            return None
    return f"expected a file that can be written, got {str(path)!r}, {found}; {advice}"


def _is_special(path: Path) -> bool:
    """Whether something can be opened for writing but not replaced.

    /dev/stdout and the like are links that may lead to a regular file, which must not be replaced either.

    Raises:
        OSError: When it is a folder, or a link that leads to itself.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    folder = path.parent.resolve()
    return not stat.S_ISREG(mode) or folder == Path("/dev") or folder.is_relative_to("/proc")
