"""The checker must find what is wrong: each fault is put into an environment that is right otherwise."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from glimpse_envs.checker import VectorEnvError, check_vector_env
from glimpse_envs.classification.vector import GlimpseVectorEnv

ID = "Glimpse/Faulty-v0"
OPTIONS = {"dataset": "digits", "split": "test", "num_glimpses": 3, "glimpse_size": 6, "action_mode": "joint"}


class Faulty(GlimpseVectorEnv):
    """Right, but for the fault that is named."""

    fault = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.fault == "space":
            self.single_action_space = gymnasium.spaces.MultiDiscrete([2, 2])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if self.fault == "seed":
            seed = 1
        if self.fault == "mask" and options:
            options = {}
        return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> Any:
        if self.fault == "swapped":
            actions = actions[::-1]
        seen, rewards, terminated, truncated, infos = super().step(actions)
        if self.fault == "reward":
            rewards = rewards + 0.01
        elif self.fault == "type":
            rewards = rewards.astype(np.float32)
        elif self.fault == "glimpse":
            seen["glimpse"] = seen["glimpse"] * 0.9
        elif self.fault == "bounds":
            seen["time"] = seen["time"] + 1
        elif self.fault == "final" and "final_obs" in infos:
            infos["final_obs"][0] = {name: values[0] for name, values in seen.items()}
        elif self.fault == "final mask" and "final_obs" in infos:
            infos["_final_obs"] = ~infos["_final_obs"]
        elif self.fault == "final info" and "final_info" in infos:
            infos["final_info"]["correct"] = ~infos["final_info"]["correct"]
        return seen, rewards, terminated, truncated, infos


@pytest.fixture(autouse=True)
def registered():
    gymnasium.register(
        ID, entry_point="glimpse_envs.classification.single:GlimpseEnv", vector_entry_point=Faulty, kwargs=dict(OPTIONS)
    )
    yield
    gymnasium.registry.pop(ID)


def test_what_is_right_passes():
    check_vector_env(ID, steps=15)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("space", "expected single_action_space to be the single environment's"),
        ("seed", "expected other episodes under seed 1 than under 0"),
        ("mask", "expected infos of the environments"),
        ("swapped", "expected environment . to"),
        ("reward", "expected environment 0 to earn"),
        ("type", r"expected rewards as float64 \(5,\), got float32"),
        ("glimpse", "expected environment 0 to see what it sees alone"),
        ("bounds", "expected an observation in Dict"),
        ("final", "expected final_obs of environment 0 to be what it saw last"),
        ("final mask", "expected the mask of final_obs to be"),
        ("final info", "expected final_info .* of environment"),
    ],
)
def test_each_fault_is_found(monkeypatch, fault, sentence):
    monkeypatch.setattr(Faulty, "fault", fault)
    # Where a budget is fixed all episodes end together, and there is nothing to mask.
    mode = "declare" if fault == "mask" else "joint"
    with pytest.raises(VectorEnvError, match=sentence):
        check_vector_env(ID, steps=15, action_mode=mode)
