"""Files that are written whole or not at all: whatever goes wrong, the older file stays and no draft does."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from glimpse import files
from glimpse.files import (
    draft_folder,
    put_in_place,
    remove_drafts,
    whole_file,
    whole_path,
    whole_text,
    write_problem,
    write_whole,
)


def by_content(path: Path) -> None:
    write_whole(path, "new\n")


def by_stream(path: Path) -> None:
    with whole_file(path) as stream:
        stream.write(b"ne")
        stream.write(b"w\n")


def by_text(path: Path) -> None:
    with whole_text(path) as stream:
        print("new", file=stream)


def by_path(path: Path) -> None:
    with whole_path(path) as draft:
        draft.write_text("new\n", encoding="utf-8")


def no_space(*_: Any) -> None:
    """Fail as a full disk does, in place of os.fsync and the like."""
    raise OSError(errno.ENOSPC, "No space left on device")


WAYS = {"content": by_content, "stream": by_stream, "text": by_text, "path": by_path}
Way = Callable[[Path], None]


@pytest.fixture(params=WAYS)
def write(request: pytest.FixtureRequest) -> Way:
    """Each way of writing a file whole."""
    return WAYS[request.param]


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Expect a folder to hold afterwards what it held before, and nothing more."""
    before = {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
    yield
    assert {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")} == before


def test_a_new_file_and_an_older_one_are_written(write, tmp_path):
    for _ in range(2):
        write(tmp_path / "it.txt")
        assert (tmp_path / "it.txt").read_bytes() == b"new\n"
        assert [path.name for path in tmp_path.iterdir()] == ["it.txt"]


def test_text_is_utf_8_and_keeps_its_line_ends(tmp_path):
    write_whole(tmp_path / "it", "\r\né\n")
    assert (tmp_path / "it").read_bytes() == b"\r\n\xc3\xa9\n"
    with whole_text(tmp_path / "it", errors="surrogateescape") as stream:
        stream.write("\r\n\udcff\n")
    assert (tmp_path / "it").read_bytes() == b"\r\n\xff\n"


def test_a_new_file_has_the_permissions_that_open_gives(write, tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "it")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "it").stat().st_mode) == 0o640


def test_an_older_file_keeps_its_permissions(write, tmp_path):
    (tmp_path / "it").write_text("old")
    (tmp_path / "it").chmod(0o604)
    write(tmp_path / "it")
    assert stat.S_IMODE((tmp_path / "it").stat().st_mode) == 0o604


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_file_is_written(write, tmp_path, there):
    (tmp_path / "other").mkdir()
    if there:
        (tmp_path / "other" / "file").write_text("old")
    (tmp_path / "link").symlink_to(Path("other") / "file")
    write(tmp_path / "link")
    assert (tmp_path / "link").readlink() == Path("other") / "file"
    assert (tmp_path / "other" / "file").read_text() == "new\n"
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["file"]


def test_a_pipe_is_written_and_not_replaced(write, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(tmp_path / "pipe")
        assert os.read(reader, 10) == b"new\n"
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc here")
def test_an_open_file_of_the_process_is_written_and_not_replaced(write, tmp_path):
    with (tmp_path / "it").open("wb") as stream:
        place = (tmp_path / "it").stat().st_ino
        write(Path(f"/proc/self/fd/{stream.fileno()}"))
        assert (tmp_path / "it").read_bytes() == b"new\n"
        assert (tmp_path / "it").stat().st_ino == place


def half_a_stream(path: Path, fault: BaseException) -> None:
    with whole_file(path) as stream:
        stream.write(b"half")
        raise fault


def half_a_text(path: Path, fault: BaseException) -> None:
    with whole_text(path) as stream:
        stream.write("half")
        stream.flush()
        raise fault


def half_a_path(path: Path, fault: BaseException) -> None:
    with whole_path(path) as draft:
        draft.write_text("half")
        raise fault


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_what_fails_in_the_middle_leaves_nothing(fault, old, tmp_path):
    path = tmp_path / "it"
    if old:
        path.write_text("old")
    for write in (half_a_stream, half_a_text, half_a_path):
        with unchanged(tmp_path), pytest.raises(type(fault)):
            write(path, fault)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_at_the_end_leaves_nothing(write, call, monkeypatch, tmp_path):
    (tmp_path / "it").write_text("old")

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
    with unchanged(tmp_path), pytest.raises(OSError, match="Input/output error") as failed:
        write(tmp_path / "it")
    assert failed.value.filename == str(tmp_path / "it")


LIMITED = """
import resource, signal, sys
from pathlib import Path
from glimpse.files import write_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(Path(sys.argv[1]), "x" * 5000)
except OSError as error:
    print(error)
"""


@pytest.mark.child
def test_a_file_that_may_grow_no_further_leaves_the_older_one(tmp_path):
    (tmp_path / "it").write_text("old")
    with unchanged(tmp_path):
        command = [sys.executable, "-c", LIMITED, str(tmp_path / "it")]
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(files.__file__).parents[1])
    assert run.stdout == f"[Errno {errno.EFBIG}] File too large: '{tmp_path / 'it'}'\n"


SLOW = """
import sys, time
from pathlib import Path
from glimpse.files import whole_text
with whole_text(Path(sys.argv[1])) as stream:
    stream.write("half")
    stream.flush()
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.mark.child
def test_an_interrupt_leaves_the_older_file(tmp_path):
    (tmp_path / "it").write_text("old")
    with unchanged(tmp_path):
        command = [sys.executable, "-c", SLOW, str(tmp_path / "it")]
        root = Path(files.__file__).parents[1]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"begun\n"
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate()
    assert errors.endswith(b"KeyboardInterrupt\n")


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with whole_text(tmp_path / "it") as first, whole_text(tmp_path / "it") as second:
        first.write("first")
        second.write("second")
    assert (tmp_path / "it").read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_error_names_the_file_and_not_its_draft(write, tmp_path):
    with pytest.raises(FileNotFoundError) as failed:
        write(tmp_path / "gone" / "it")
    assert failed.value.filename == str(tmp_path / "gone" / "it")
    with unchanged(tmp_path), pytest.raises(IsADirectoryError) as a_folder:
        write(tmp_path)
    assert a_folder.value.filename == str(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with unchanged(tmp_path), pytest.raises(OSError, match="symbolic links"):
        write(tmp_path / "loop")


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as failed, whole_text(tmp_path / "it"):
        (tmp_path / "gone").read_text()
    assert failed.value.filename == str(tmp_path / "gone")
    with pytest.raises(OSError, match="truncated") as other, whole_text(tmp_path / "it"):
        raise OSError("image file is truncated")
    assert other.value.filename is None


def without_permission(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Forbid to write a file or into a folder, to root as well."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place and access(path, mode))


def test_a_file_that_must_not_be_written_is_not_replaced(write, monkeypatch, tmp_path):
    (tmp_path / "it").write_text("old")
    without_permission(monkeypatch, tmp_path / "it")
    with unchanged(tmp_path), pytest.raises(PermissionError) as failed:
        write(tmp_path / "it")
    assert failed.value.filename == str(tmp_path / "it")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_told(write, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError) as failed:
            write(tmp_path / "it")
        assert failed.value.filename == str(tmp_path / "it")
        assert "no permission" in str(write_problem(tmp_path / "it"))
    finally:
        tmp_path.chmod(0o700)


def test_what_is_in_the_way_is_said_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert write_problem(Path("new")) is None
    assert write_problem(Path("file")) is None
    assert write_problem(Path("/dev/null")) is None
    expected = "expected a file that can be written, got "
    for name, found in {
        "folder": "which is a folder; name a file in it",
        "gone/it": "whose folder 'gone' does not exist; make the folder first, or name another file",
        "file/it": "which can't be opened (Not a directory); name another file",
        "loop": "which is a link that leads to itself; name another file",
    }.items():
        assert write_problem(Path(name)) == f"{expected}'{name}', {found}"
    forbidden = "which you have no permission to write; name another file"
    for place, name in {"file": "file", "folder": "folder/it"}.items():
        with monkeypatch.context() as patch:
            without_permission(patch, tmp_path / place)
            patch.setattr(os, "access", lambda path, mode, ask=os.access: ask(Path(path).resolve(), mode))
            assert write_problem(Path(name)) == f"{expected}'{name}', {forbidden}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "loop"]


def test_a_folder_of_drafts_moves_as_one(tmp_path):
    with draft_folder(tmp_path) as folder:
        (folder / "made").mkdir()
        (folder / "made" / "it").write_text("new")
        (folder / "left").write_text("not moved")
        put_in_place(folder / "made", tmp_path / "place")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["place", "place/it"]


PACKAGES = Path(files.__file__).parents[1]
WRITES = re.compile(
    r"\.write_(?:text|bytes)\(|open\([^)]*[\"'][wxa]b?\+?[\"']|\b(?:mkstemp|mkdtemp|NamedTemporaryFile)\b"
)
"""Calls that write to a file."""
DIRECT = {
    "glimpse/cli/app.py": "output that nobody reads any more goes to os.devnull",
    "glimpse/cli/automatic/trials.py": "a log that grows while a trial goes on",
    "glimpse/data/folder/decoding.py": "into a draft of the cache's folder, which is renamed when it is whole",
    "glimpse/export/model.py": "into a draft",
    "glimpse/export/targets/triton.py": "into drafts",
    "serve/glimpse_serve/models/trial.py": "a setting of its own process, under /proc",
}
"""Modules that write in another way than by glimpse.files, each with the reason."""


def test_every_file_of_the_product_is_written_whole():
    modules = [
        path
        for part in ("glimpse", "envs/glimpse_envs", "serve/glimpse_serve")
        for path in PACKAGES.glob(f"{part}/**/*.py")
    ]
    writing = {
        path.relative_to(PACKAGES).as_posix() for path in modules if WRITES.search(path.read_text(encoding="utf-8"))
    }
    assert writing - {"glimpse/files.py"} == set(DIRECT)


def test_drafts_that_were_left_behind_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".glimpse-abc").mkdir()
    (tmp_path / ".glimpse-abc" / "half.ckpt").touch()
    (tmp_path / "last.ckpt").touch()
    remove_drafts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
