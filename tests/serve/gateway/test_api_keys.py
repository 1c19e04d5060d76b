import hashlib
import hmac
import os
from pathlib import Path

import pytest

from glimpse_serve.gateway.api_keys import KeyFileError, KeyRing, exposure_warnings, make_key, read_entries

(ALICE, ALICES), (BOB, BOBS) = make_key("alice"), make_key("bob")


def write(file: Path, text: str) -> None:
    file.write_text(text)
    os.utime(file, ns=(0, hash(text) & 0xFFFFFFFFFFFF))


def test_keys_are_known_by_their_hashes_and_names(tmp_path):
    file = tmp_path / "keys"
    write(file, f"# ours\n\n{ALICES} rate=2.5 # the first\n")
    ring = KeyRing(str(file), f"{BOBS},")
    assert len(ring) == 2
    assert ring.required
    alice, bob = ring.find(ALICE), ring.find(BOB)
    assert alice
    assert bob
    assert (alice.name, alice.rate, bob.name, bob.rate) == ("alice", 2.5, "bob", None)
    assert alice.digest == hashlib.sha256(ALICE.encode()).digest()
    for wrong in ("", "x", ALICE[:-1], f"{ALICE} ", "ünicode", "\udcff"):
        assert ring.find(wrong) is None


def test_all_keys_are_compared_for_every_secret(monkeypatch):
    compared: list[bytes] = []
    real = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    ring = KeyRing("", f"{ALICES},{BOBS}")
    for secret in (ALICE, BOB, "wrong"):
        compared.clear()
        ring.find(secret)
        assert len(compared) == 2


def test_without_any_none_is_wanted():
    assert not KeyRing().required
    assert KeyRing().find("x") is None


def test_a_key_is_revoked_and_another_added_while_it_runs(tmp_path):
    file = tmp_path / "keys"
    write(file, ALICES)
    ring = KeyRing(str(file))
    write(file, BOBS)
    ring.refresh()
    assert ring.find(ALICE)  # until the file rests
    ring.refresh()
    assert ring.find(ALICE) is None
    assert ring.find(BOB)
    write(file, "# nobody any more")
    for _ in range(2):
        ring.refresh()
    assert len(ring) == 0
    assert ring.required


def test_a_broken_file_leaves_the_keys_and_is_logged_once(tmp_path, caplog):
    file = tmp_path / "keys"
    write(file, ALICES)
    ring = KeyRing(str(file))
    for text in ("alice nonsense", None, f"{ALICES}\n{ALICES}"):
        caplog.clear()
        if text is None:
            file.unlink()
        else:
            write(file, text)
        for _ in range(3):
            ring.refresh()
        assert ring.find(ALICE)
        assert caplog.text.count("the keys stay as they were") == 1
    write(file, BOBS)
    for _ in range(2):
        ring.refresh()
    assert ring.find(BOB)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alice", "line 1 of it"),
        (f"{ALICES}\nbob sha256:12", "line 2 of it"),
        (f"a/b sha256:{'0' * 64}", "line 1"),
        (f"{ALICES} rate=fast", "line 1"),
        (f"{ALICES} rate=1 more", "line 1"),
        (f"bob sha256:{'G' * 64}", "line 1"),
    ],
    ids=["no-sum", "short-sum", "slash", "word-as-rate", "rest", "no-hexadecimal-sum"],  # keys differ in each process
)
def test_a_malformed_line_is_reported_without_showing_it(text, message):
    with pytest.raises(KeyFileError, match=message) as reported:
        read_entries(text, "it")
    assert "sha256:1" not in str(reported.value)
    assert text.split()[1:2] == [] or text.split()[1] not in str(reported.value)


def test_a_missing_file_or_a_repeated_name_is_an_error_at_the_start(tmp_path):
    with pytest.raises(KeyFileError, match="can't read the file of keys"):
        KeyRing(str(tmp_path / "none"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(KeyFileError, match="no UTF-8"):
        KeyRing(str(tmp_path / "binary"))
    with pytest.raises(KeyFileError, match="alice more than once"):
        KeyRing("", f"{ALICES},{ALICES}")
    with pytest.raises(KeyFileError, match="one under two names"):
        KeyRing("", f"{ALICES},{ALICES.replace('alice', 'eve')}")


def test_keys_that_are_made_differ_and_bear_sane_names():
    assert make_key("a")[0] != make_key("a")[0]
    assert len(make_key("a")[0]) > 40
    for name in ("", "a b", "a\nb", "#a", "ü"):
        with pytest.raises(KeyFileError, match="a key's name of letters"):
            make_key(name)


@pytest.mark.parametrize(
    ("mode", "open_to_others"),
    [(0o600, False), (0o400, False), (0o700, False), (0o640, True), (0o604, True), (0o620, True), (0o602, True)],
)
def test_a_file_of_secrets_that_others_can_read_or_change_is_named(tmp_path, mode, open_to_others):
    file, link = tmp_path / "the keys", tmp_path / "link"
    file.write_text(ALICES)
    file.chmod(mode)
    link.symlink_to(file)
    assert bool(exposure_warnings(str(file))) is open_to_others
    assert len(exposure_warnings(str(link), "", str(link), str(tmp_path / "none"))) == open_to_others
    for warning in exposure_warnings(str(file)):
        assert f"with mode 600 or less, got mode {mode:o}" in warning
        assert f"run: chmod 600 '{file}'" in warning
        assert ALICES not in warning


@pytest.mark.parametrize(("mode", "open_to_others"), [(0o440, False), (0o640, False), (0o660, True), (0o444, True)])
def test_a_file_of_somebody_else_may_be_read_by_its_group(tmp_path, monkeypatch, mode, open_to_others):
    file = tmp_path / "keys"
    file.write_text(ALICES)
    file.chmod(mode)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert [warning.partition("run: ")[2] for warning in exposure_warnings(str(file))] == (
        [f"chmod 640 {file}"] * open_to_others
    )
