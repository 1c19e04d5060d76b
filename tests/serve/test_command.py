import hashlib
import re
import sys

import pytest

import glimpse_serve
from glimpse.cli.app import main
from glimpse_serve.command import settings_line
from glimpse_serve.gateway.api_keys import make_key, read_entries
from glimpse_serve.settings import Settings


def test_the_settings_are_printed_without_secrets():
    line = settings_line(Settings(models=("a.onnx",), keys="alice sha256:abc", allow_anonymous=True))
    assert line.startswith("glimpse serve: models=a.onnx directory=- ")
    assert "keys=(given)" in line
    assert "abc" not in line
    assert "allow_anonymous=true" in line
    assert "\n" not in line


def test_a_key_is_made_that_its_line_knows(capsys):
    assert main(["serve", "--make-key", "alice"]) == 0
    secret, line = (text.partition(":")[2].strip() for text in capsys.readouterr().out.splitlines())
    (key,) = read_entries(line, "it")
    assert (key.name, key.digest) == ("alice", hashlib.sha256(secret.encode()).digest())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--host", "0.0.0.0"], "expected API keys, since 0.0.0.0 can be reached from other machines, got none"),
        (["--prot", "80"], "serve knows no '--prot'.*--port"),
        (["--make-key", "a b"], "a key's name of letters"),
        (["--keys-file", "/nowhere/keys"], "can't read the file of keys '/nowhere/keys'"),
        (["--keys", "alice secret"], "line 1 of the keys that were given"),
        (["--max-workers", "4"], "--max-workers: expected --ray beside it"),
        (["a/x.onnx"], "a model's file at 'a/x.onnx', found none"),
    ],
)
def test_mistakes_are_reported_before_anything_is_started(args, message, capsys):
    assert main(["serve", *args]) == 2
    messages = capsys.readouterr().err
    assert re.search(message, messages)
    assert "Traceback" not in messages
    assert "alice secret" not in messages


def test_without_ray_its_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "glimpse_serve.on_ray", raising=False)
    monkeypatch.delattr(glimpse_serve, "on_ray", raising=False)
    assert main(["serve", "--ray"]) == 2
    assert "pip install 'glimpse-attention[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["keys_file", "tls_key"])
def test_files_of_secrets_that_others_can_read_are_warned_of_once(tmp_path, monkeypatch, capsys, name):
    secret, entry = make_key("alice")
    file = tmp_path / "secrets"
    file.write_text(f"{entry}\n")
    file.chmod(0o644)
    monkeypatch.setattr("glimpse_serve.server.serve", lambda settings: 0)
    monkeypatch.setattr("glimpse_serve.gateway.authentication.check_access", lambda settings, keys: None)
    option = f"--{name.replace('_', '-')}"
    more = ["--tls-certificate", "certificate"] if name == "tls_key" else []
    assert main(["serve", option, str(file), *more]) == 0
    said = capsys.readouterr().err
    assert said.count(f"warning: expected '{file}', which holds secrets") == 1
    assert f"chmod 600 {file}" in said
    assert secret not in said
    assert entry.partition(":")[2] not in said
    file.chmod(0o600)
    assert main(["serve", option, str(file), *more]) == 0
    assert "warning" not in capsys.readouterr().err
