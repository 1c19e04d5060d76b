import numpy as np
import pytest

from glimpse.contract.card import ContractError
from glimpse_envs.play.opponent import Opponent, OpponentError


@pytest.fixture(scope="module")
def opponent(exported):
    return Opponent(exported.path)


def test_its_budget_and_retina_are_an_environments_options(opponent):
    assert opponent.retina_options() == {"num_glimpses": 3, "glimpse_size": 6, "num_scales": 2, "zoom": 2}
    assert opponent.data_options() == {}


def test_a_recipes_images_are_an_environments_options(opponent, monkeypatch):
    data = {"dataset": "digits", "canvas_height": 60, "channels": None, "batch_size": 128}
    monkeypatch.setitem(opponent.card.recipe, "data", data)
    assert opponent.data_options() == {"dataset": "digits", "canvas_height": 60}


def test_images_that_do_not_fit_are_refused(opponent):
    classes = tuple("0123456789")
    opponent.check_images((1, 40, 52), classes)
    with pytest.raises(
        OpponentError, match="40x52 pixels with 1 channel, but those of the game are 28x28 pixels with 3"
    ):
        opponent.check_images((3, 28, 28), classes)
    with pytest.raises(OpponentError, match=r"knows the classes 0, 1, .* but those of the game are cat, dog"):
        opponent.check_images((1, 40, 52), ("cat", "dog"))


def test_a_file_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ContractError, match="no such file"):
        Opponent(tmp_path / "no.onnx")


def test_its_answers_are_those_after_each_glimpse(opponent, exported):
    image = exported.images[0].permute(1, 2, 0).numpy()
    sight = opponent.classify(image)
    entry = opponent.record(sight)
    found = opponent.session.run(image[None])
    assert entry.answers == tuple(found.probabilities[0].argmax(1))
    assert np.allclose(entry.confidences, found.probabilities[0].max(1), atol=1e-4)
    assert np.allclose(entry.fixations, found.locations[0], atol=1e-4)
    assert opponent.draw_scanpath(sight).width > 52


def test_the_description_tells_one_file_from_another(opponent):
    told = opponent.description()
    assert (told["file"], len(told["sha256"]), told["num_glimpses"]) == ("model.onnx", 64, 3)
