from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glimpse.runtime.session import GlimpseSession
from glimpse_serve.models import loading
from glimpse_serve.models.loading import LONGEST_MESSAGE, open_model
from glimpse_serve.models.names import ModelError
from tests.support import hostile, toys

CARDS = (toys.ADAPTIVE, toys.EPISODE, toys.STEP, replace(toys.EPISODE, any_size=False))


@pytest.mark.parametrize("card", CARDS, ids=lambda card: f"{card.graph}-{card.any_size}")
def test_a_model_is_opened_after_it_was_run_in_each_way(tmp_path, card, monkeypatch):
    ran: list[int] = []
    run, scan = GlimpseSession.run, GlimpseSession.scan

    def counted_run(self: GlimpseSession, images: Any, **limits: Any) -> Any:
        ran.append(len(images))
        return run(self, images, **limits)

    def counted_scan(self: GlimpseSession, image: Any, **options: Any) -> Any:
        ran.append(0)
        return scan(self, image, **options)

    monkeypatch.setattr(GlimpseSession, "run", counted_run)
    monkeypatch.setattr(GlimpseSession, "scan", counted_scan)
    session = open_model(toys.write_toy(tmp_path / "toy.onnx", card))
    assert session.card == card
    assert {0, 1, 2} == set(ran)
    assert ran.count(0) == 1 + (card.any_size or card.graph == "step")


def test_another_file_than_the_one_that_was_tried_is_not_loaded(tmp_path):
    path = toys.write_toy(tmp_path / "toy.onnx", toys.EPISODE)
    sha256 = open_model(path).sha256
    assert open_model(path, sha256=sha256).sha256 == sha256
    toys.write_toy(path, replace(toys.EPISODE, data="another"))
    with pytest.raises(ModelError, match=f"expected the file with the seal {sha256}, got that with .*was replaced"):
        open_model(path, sha256=sha256)


def test_fewer_glimpses_than_the_card_says_are_refused(tmp_path):
    model = toys.episode(toys.EPISODE)
    card = replace(toys.EPISODE, num_glimpses=9)
    path = hostile.resealed(tmp_path / "toy.onnx", model, card.to_json())
    with pytest.raises(ModelError, match=r"expected 9 glimpses and probabilities of 3 classes .*, got \(5, 3\)"):
        open_model(path)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.nan, "expected finite numbers"),
        (np.inf, "expected finite numbers"),
        (0.5, "sum to one"),
        (-1.0, "sum to one"),
    ],
)
def test_what_sums_to_no_probabilities_is_refused(tmp_path, value, sentence):
    path = hostile.write(tmp_path / "toy.onnx", lambda draft: draft.constant(value))
    with pytest.raises(ModelError, match=sentence):
        open_model(path)


@pytest.mark.parametrize("words", ["std::bad_alloc", "Failed to allocate memory for requested buffer of size 8"])
def test_too_little_memory_is_told_apart(tmp_path, monkeypatch, words):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(loading, "GlimpseSession", fail)
    with pytest.raises(MemoryError):
        open_model(tmp_path / "toy.onnx")


def test_the_message_of_an_unknown_fault_is_short_and_printable(tmp_path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("\x1b[2J" * 10_000)

    monkeypatch.setattr(loading, "GlimpseSession", fail)
    with pytest.raises(ModelError, match=r"can't be served \(\\x1b\[2J") as refused:
        open_model(tmp_path / "toy.onnx")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 5 * LONGEST_MESSAGE
