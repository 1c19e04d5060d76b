from dataclasses import fields

import pytest

from glimpse_serve.settings import Settings


def test_they_survive_the_way_to_the_workers():
    given = Settings(models=("a=b.onnx", "c.onnx"), cors=("https://x.org",), port=0, rate=2.5, tracing=True)
    assert Settings.from_json(given.to_json()) == given
    assert Settings.from_json(Settings().to_json()) == Settings()


def test_each_is_explained():
    reported = Settings.__doc__ or ""
    assert [field.name for field in fields(Settings) if f"        {field.name}: " not in reported] == []


def test_they_can_not_be_changed():
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]
