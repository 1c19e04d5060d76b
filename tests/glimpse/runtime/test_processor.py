import platform
from pathlib import Path

import pytest

from glimpse.runtime.providers import processor


def test_the_processor_has_a_name():
    assert processor().strip() == processor() != ""


def test_where_the_system_lists_none_it_is_what_python_knows(monkeypatch):
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    assert processor() == "abacus"


@pytest.mark.parametrize("line", ["model name\t: Abacus 9", "model name : Abacus 9"])
def test_the_systems_list_names_it(monkeypatch, line):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"processor : 0\n{line}\nmodel name : another")
    assert processor() == "Abacus 9"
