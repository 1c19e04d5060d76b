import re
import subprocess
import sys
import warnings

import gymnasium
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_for_agents

import glimpse_envs
from glimpse_envs.checker import check_vector_env
from glimpse_envs.classification.actions import ACTION_MODES
from glimpse_envs.classification.single import GlimpseEnv
from glimpse_envs.classification.vector import GlimpseVectorEnv

ADVICE = re.compile("Your observation (glimpse|view) has an unconventional shape")
"""What Stable-Baselines3 says of every observation that is neither an image nor a vector."""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("mode", ACTION_MODES)
def test_every_id_passes_gymnasiums_and_stable_baselines_checks_in_every_mode(options, mode, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = gymnasium.make(**options, action_mode=mode)
        check_env(env.unwrapped)
        check_for_agents(env.unwrapped)
        env.close()
    told = [str(warning.message) for warning in caught]
    assert [sentence for sentence in told if not ADVICE.search(sentence)] == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ACTION_MODES)
def test_every_vector_environment_is_what_single_ones_are(options, mode):
    check_vector_env(options.pop("id"), action_mode=mode, split="test", steps=25, **options)


@pytest.mark.child
def test_anywhere_an_id_is_enough():
    program = (
        "import gymnasium, sys; before = 'torch' in sys.modules;"
        "env = gymnasium.make('glimpse_envs:Glimpse/Digits-v0'); env.reset(seed=1);"
        "envs = gymnasium.make_vec('glimpse_envs:Glimpse/Digits-v0', num_envs=3); envs.reset(seed=1);"
        "print(before, type(env.unwrapped).__name__, type(envs.unwrapped).__name__)"
    )
    folders = [str(path) for path in glimpse_envs.__path__]
    environment = {"PYTHONPATH": ":".join([f"{folders[0]}/..", f"{folders[0]}/../.."]), "PATH": "", "HOME": "/"}
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd="/", check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["False", "GlimpseEnv", "GlimpseVectorEnv"]


@pytest.mark.child
def test_importing_the_package_brings_no_torch():
    program = "import sys, glimpse_envs; print('torch' in sys.modules)"
    folders = [str(path) for path in glimpse_envs.__path__]
    environment = {"PYTHONPATH": ":".join([f"{folders[0]}/..", f"{folders[0]}/../.."]), "PATH": "", "HOME": "/"}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout.strip() == "False"


def test_an_id_has_the_shape_that_its_summary_says():
    env = gymnasium.make("Glimpse/Digits-v0")
    assert isinstance(env.unwrapped, GlimpseEnv)
    assert env.unwrapped.core.scenes.image_shape == (1, 28, 28)
    assert env.unwrapped.core.rule.num_glimpses == 4
    assert env.observation_space["glimpse"].shape == (3, 1, 12, 12)  # type: ignore[index]
    envs = gymnasium.make_vec("Glimpse/Sequence-v0", num_envs=2, split="validation")
    assert isinstance(envs.unwrapped, GlimpseVectorEnv)
    assert envs.unwrapped.core.scenes.image_shape == (1, 32, 96)


def test_unknown_ids_modes_and_options_are_refused():
    with pytest.raises(gymnasium.error.NameNotFound, match="Digit"):
        gymnasium.make("Glimpse/Digit-v0")
    with pytest.raises(ValueError, match="expected action_mode out of declare, joint, box, location; got 'joynt'"):
        gymnasium.make("Glimpse/Digits-v0", action_mode="joynt")
    with pytest.raises(ValueError, match="an environment has no option 'budget'"):
        gymnasium.make_vec("Glimpse/Digits-v0", num_envs=2, budget=3)


def test_agents_of_torch_may_hand_in_their_arrays():
    envs = gymnasium.make_vec("Glimpse/Digits-v0", num_envs=2)
    envs.reset(seed=0)
    seen, *_ = envs.step(torch.tensor([[3, 10], [4, 10]]).numpy())
    assert seen["time"].flatten().tolist() == [0.5, 0.5]
