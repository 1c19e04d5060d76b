import itertools
import warnings
from collections.abc import Callable, Iterator
from functools import cache

import gymnasium
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded, UnsupportedMode
from gymnasium.utils.env_checker import check_env, data_equivalence

from glimpse_envs.maze.env import MazeEnv, MazeObservation, optimal_return
from glimpse_envs.maze.generator import all_junctions

ID = "GlimpseTest/Maze-v0"
LOOK, TAKE = (0, 1, 2), (3, 4, 5)
LEFT, AHEAD, RIGHT, NOWHERE = range(4)
MAZE = [(0, 3, 1), (2, 0, 5), (1, 1, 0)]
COST = 0.02

Policy = Callable[[MazeObservation], int]


@pytest.fixture(autouse=True)
def registered(monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    gymnasium.register(ID, "glimpse_envs.maze.env:MazeEnv")
    yield
    del gymnasium.registry[ID]


def act(environment: MazeEnv, *actions: int) -> list[tuple[float, bool]]:
    """Reward and end of each step."""
    steps = [environment.step(np.int64(action)) for action in actions]
    assert not any(truncated for *_, truncated, _ in steps)
    return [(reward, terminated) for _, reward, terminated, _, _ in steps]


def best_policy(num_junctions: int, sight: int, num_looks: int, look_cost: float) -> Policy:
    """Act on what an observation says, and on the optimum of what may come of it; look left first, and ahead next."""

    def choose(observation: MazeObservation) -> int:
        left = num_junctions - round(float(observation["progress"][0]) * num_junctions)
        looks = num_looks - round(float(observation["time"][0]) * num_looks)
        direction = int(observation["direction"].argmax())
        if direction != NOWHERE and observation["view"][:, 1].all():
            return TAKE[direction]
        unseen = {NOWHERE: 3, LEFT: 2, AHEAD: 1}[direction]
        first = 3 - unseen
        after = 1.0 if left == 1 else optimal_return(left - 1, looks, look_cost)
        taken = after / unseen
        return TAKE[first] if taken >= optimal_return(left, looks, look_cost, unseen) - 1e-12 else LOOK[first]

    return choose


def play(environment: MazeEnv, policy: Policy, **reset: object) -> float:
    """The return of one episode."""
    observation, _ = environment.reset(**reset)  # type: ignore[arg-type]
    total, terminated = 0.0, False
    while not terminated:
        observation, reward, terminated, _, _ = environment.step(np.int64(policy(observation)))
        total += reward
    return total


# What it is, and how it ends.


@pytest.mark.slow
def test_gymnasium_finds_nothing_to_complain_about():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mode in (None, "human"):
            environment = gymnasium.make(ID, render_mode=mode)
            check_env(environment.unwrapped)
            environment.close()


def test_stable_baselines_has_nothing_but_advice_on_the_shape_of_the_view():
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checker.check_env(MazeEnv(render_mode="rgb_array"), warn=True)
    assert [str(warning.message)[:46] for warning in caught] == ["Your observation view has an unconventional sh"]


def test_before_the_first_look_nothing_is_seen():
    observation, info = MazeEnv(sight=4).reset(seed=1)
    assert sorted(observation) == ["direction", "progress", "time", "view"]
    assert observation["view"].shape == (4, 3)
    assert (observation["view"] == 0.5).all()
    assert observation["direction"].tolist() == [0, 0, 0, 1]
    assert observation["time"] == observation["progress"] == 0
    assert info == {"looks": 0, "passed": 0, "is_success": False}


def test_a_look_shows_the_way_looked_along_and_costs_its_price():
    environment = MazeEnv(look_cost=0.125)
    environment.reset(options={"maze": MAZE})
    for way, wall in enumerate(MAZE[0]):
        observation, reward, terminated, truncated, info = environment.step(np.int64(LOOK[way]))
        assert observation["direction"].argmax() == way
        centre = [1.0] * 5
        if wall:
            centre[-wall] = 0.0
        assert observation["view"][:, 1].tolist() == centre
        assert (observation["view"][:, [0, 2]] == 0).all()
        assert observation["time"][0] == pytest.approx((way + 1) / 9)
        assert (reward, terminated, truncated) == (-0.125, False, False)
        assert info["looks"] == way + 1


def test_the_right_ways_lead_out_and_earn_one():
    environment = MazeEnv()
    environment.reset(options={"maze": MAZE})
    observation, reward, terminated, _, info = environment.step(np.int64(TAKE[LEFT]))
    assert (reward, terminated, info["passed"]) == (0.0, False, 1)
    assert observation["progress"][0] == pytest.approx(1 / 3)
    assert observation["direction"][NOWHERE] == 1
    assert act(environment, TAKE[AHEAD]) == [(0.0, False)]
    observation, reward, terminated, truncated, info = environment.step(np.int64(TAKE[RIGHT]))
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info == {"looks": 0, "passed": 3, "is_success": True}
    assert observation["progress"] == 1


@pytest.mark.parametrize("way", [AHEAD, RIGHT])
def test_a_blind_way_ends_the_episode_and_earns_nothing(way):
    environment = MazeEnv()
    environment.reset(options={"maze": MAZE})
    assert act(environment, TAKE[way]) == [(0.0, True)]


def test_a_look_beyond_the_budget_ends_the_episode_and_costs_nothing():
    environment = MazeEnv(num_looks=2)
    environment.reset(options={"maze": MAZE})
    seen = [environment.step(np.int64(LOOK[LEFT])) for _ in range(3)]
    assert [(reward, terminated, truncated) for _, reward, terminated, truncated, _ in seen] == [
        (-COST, False, False),
        (-COST, False, False),
        (0.0, True, False),
    ]
    assert data_equivalence(seen[1][0], seen[2][0])


def test_a_used_up_budget_leaves_the_ways_to_be_taken():
    environment = MazeEnv(num_looks=1)
    environment.reset(options={"maze": MAZE})
    assert act(environment, LOOK[LEFT], TAKE[LEFT], TAKE[AHEAD], TAKE[RIGHT])[-1] == (1.0, True)


def test_the_default_budget_lets_an_agent_look_everywhere():
    environment = MazeEnv(num_junctions=2)
    environment.reset(options={"maze": MAZE[:2]})
    steps = act(environment, *LOOK, TAKE[LEFT], *LOOK, TAKE[AHEAD])
    assert steps[-1] == (1.0, True)
    assert sum(reward for reward, _ in steps) == pytest.approx(1 - 6 * COST)


def test_the_same_seed_gives_the_same_episodes():
    def record(seed: int) -> list[object]:
        environment = MazeEnv()
        choices = np.random.default_rng(3)
        environment.reset(seed=seed)
        seen: list[object] = []
        for _ in range(60):
            observation, reward, terminated, _, info = environment.step(choices.integers(6))
            seen.append(({key: value.tolist() for key, value in observation.items()}, reward, terminated, info))
            if terminated:
                environment.reset()
        return seen

    assert record(4) == record(4)
    assert record(4) != record(5)


def test_it_is_made_with_arguments_like_any_other_environment():
    environment = gymnasium.make(ID, num_junctions=2, sight=3, look_cost=0.1, num_looks=4)
    observation, _ = environment.reset(seed=0)
    assert observation["view"].shape == (3, 3)
    vector = gymnasium.make_vec(ID, num_envs=3, vectorization_mode="sync", sight=4)
    observations, _ = vector.reset(seed=0)
    assert observations["view"].shape == (3, 4, 3)
    vector.close()


# What is refused.


def test_an_unknown_render_mode_is_refused():
    with pytest.raises(UnsupportedMode, match="expected render_mode out of human, rgb_array, ansi, or none; got 'rgb'"):
        MazeEnv(render_mode="rgb")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_junctions": 0}, "expected num_junctions to be a whole number of at least 1, got 0"),
        ({"sight": 0}, "expected sight to be a whole number of at least 1, got 0"),
        ({"num_looks": 0}, "expected num_looks to be a whole number of at least 1, got 0"),
        ({"look_cost": -0.1}, r"expected a look_cost in \[0, 1\], got -0.1"),
        ({"look_cost": float("nan")}, r"expected a look_cost in \[0, 1\], got nan"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        MazeEnv(**arguments)


@pytest.mark.parametrize("action", [-1, 6, np.int64(6), np.array([1]), 1.0, None, "left"])
def test_an_action_that_is_none_is_refused_and_changes_nothing(action):
    environment = MazeEnv()
    environment.reset(options={"maze": MAZE})
    with pytest.raises(InvalidAction, match=r"expected an action from 0 to 5, a whole number, got .*; look left"):
        environment.step(action)
    assert act(environment, TAKE[LEFT]) == [(0.0, False)]


@pytest.mark.parametrize("action", [0, np.int32(0), np.int64(0), np.array(0), np.uint8(0)])
def test_whole_numbers_of_any_kind_are_actions(action):
    environment = MazeEnv()
    environment.reset(options={"maze": MAZE})
    assert environment.step(action)[1] == -COST


def test_a_step_needs_a_reset_before_it():
    environment = MazeEnv()
    with pytest.raises(ResetNeeded, match=r"got a step before the first reset\(\); call reset\(\) first"):
        environment.step(np.int64(0))
    environment.reset(options={"maze": MAZE})
    act(environment, TAKE[RIGHT])
    with pytest.raises(ResetNeeded, match=r"got a step after the episode's end; call reset\(\) first"):
        environment.step(np.int64(0))
    environment.reset()
    act(environment, LOOK[LEFT])


@pytest.mark.parametrize(
    "maze",
    [
        MAZE[:2],
        [*MAZE, MAZE[0]],
        [*MAZE[:2], (0, 0, 1)],
        [*MAZE[:2], (1, 2, 3)],
        [*MAZE[:2], (6, 0, 1)],
        [*MAZE[:2], (-1, 0, 1)],
        [*MAZE[:2], (0, 1)],
        [*MAZE[:2], (0, 1, 1.5)],
        [*MAZE[:2], 3],
        "maze",
        None,
    ],
)
def test_a_maze_that_is_none_is_refused(maze):
    with pytest.raises(
        ValueError, match=r"expected a maze of 3 junctions, .* from 1 to 5, and 0 for the open one, got"
    ):
        MazeEnv().reset(options={"maze": maze})


def test_an_array_describes_a_maze_as_well():
    environment = MazeEnv()
    environment.reset(options={"maze": np.array(MAZE)})
    assert act(environment, *(TAKE[way] for way in (LEFT, AHEAD, RIGHT)))[-1] == (1.0, True)


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match=r"expected no option but 'maze', got \['mase'\]; leave them out"):
        MazeEnv().reset(options={"mase": MAZE})


# How it is shown.


def test_a_frame_is_an_rgb_picture_that_changes_with_each_look():
    environment = MazeEnv(render_mode="rgb_array")
    environment.reset(seed=0)
    before = environment.render()
    act(environment, LOOK[LEFT])
    after = environment.render()
    assert before.dtype == np.uint8
    assert before.shape == after.shape
    assert before.shape[2] == 3
    assert (before != after).any()


def test_the_plan_is_written_down():
    environment = MazeEnv(render_mode="ansi")
    environment.reset(options={"maze": MAZE})
    act(environment, LOOK[RIGHT])
    assert environment.render().endswith("junction 1 of 3, 1 of 9 looks, looks right")


def test_the_window_shows_each_step():
    pygame = pytest.importorskip("pygame")
    environment = MazeEnv(render_mode="human")
    environment._window.frames_per_second = 1000.0
    environment.reset(seed=0)
    assert environment.render() is None
    shown = pygame.surfarray.array3d(pygame.display.get_surface())
    act(environment, LOOK[LEFT])
    assert (pygame.surfarray.array3d(pygame.display.get_surface()) != shown).any()
    environment.close()
    assert not pygame.display.get_init()


def test_without_a_render_mode_nothing_is_shown_but_a_warning():
    environment = MazeEnv()
    environment.reset()
    with pytest.warns(UserWarning, match="expected a render_mode to render in, got none"):
        assert environment.render() is None


def test_nothing_is_shown_before_a_maze_is_there():
    with pytest.raises(ResetNeeded, match=r"got render\(\) before the first reset\(\)"):
        MazeEnv(render_mode="ansi").render()


# What the best of agents earns.


def expectimax(num_junctions: int, num_looks: int, look_cost: float) -> float:
    """The optimum by brute force: all six actions, useless ones too, over the sets of mazes that may be the one.

    A maze counts with the way that leads on at each of its junctions. How far the blind ways go tells nothing about it.
    """

    @cache
    def value(mazes: frozenset[tuple[int, ...]], passed: int, looks: int) -> float:
        if passed == num_junctions:
            return 1.0
        options = [0.0]
        for way in range(3):
            right = frozenset(maze for maze in mazes if maze[passed] == way)
            wrong = mazes - right
            share = len(right) / len(mazes)
            options.append(share * value(right, passed + 1, looks) if right else 0.0)
            if looks:
                shown = share * value(right, passed, looks - 1) if right else 0.0
                shown += (1 - share) * value(wrong, passed, looks - 1) if wrong else 0.0
                options.append(shown - look_cost)
        return max(options)

    return value(frozenset(itertools.product(range(3), repeat=num_junctions)), 0, num_looks)


@pytest.mark.parametrize("look_cost", [0.0, 0.02, 0.1, 0.3, 0.45, 1.0])
@pytest.mark.parametrize("num_junctions", [1, 2, 3])
def test_the_optimum_is_what_brute_force_finds(num_junctions, look_cost):
    for num_looks in range(1, 3 * num_junctions + 1):
        brute = expectimax(num_junctions, num_looks, look_cost)
        assert optimal_return(num_junctions, num_looks, look_cost) == pytest.approx(brute, abs=1e-12)


@pytest.mark.parametrize("num_junctions", [1, 3, 8])
@pytest.mark.parametrize("look_cost", [0.0, 0.01, 0.02])
def test_with_looks_enough_the_optimum_has_a_closed_form(num_junctions, look_cost):
    for spare in (0, 1, 5):
        assert optimal_return(num_junctions, 2 * num_junctions + spare, look_cost) == pytest.approx(
            1 - num_junctions * 5 / 3 * look_cost
        )
    if look_cost:
        assert optimal_return(num_junctions, 2 * num_junctions - 1, look_cost) < 1 - num_junctions * 5 / 3 * look_cost


def test_by_default_the_best_of_agents_earns_nine_tenths():
    assert MazeEnv().optimal_return() == pytest.approx(0.9)


def test_without_looks_one_guesses_and_dear_looks_are_not_worth_it():
    assert optimal_return(3, 0, 0.02) == pytest.approx(1 / 27)
    assert optimal_return(3, 9, 1.0) == pytest.approx(1 / 27)
    assert optimal_return(0, 5, 0.02) == 1
    assert optimal_return(2, 9, 0.02, candidates=1) == optimal_return(1, 9, 0.02)


@pytest.mark.parametrize(
    "arguments", [(1, 4, 3, 0.02), (2, 2, 6, 0.02), (2, 2, 3, 0.02), (2, 2, 1, 0.1), (2, 1, 4, 0.4)]
)
def test_over_all_mazes_the_best_policy_earns_exactly_the_optimum(arguments):
    num_junctions, sight, num_looks, look_cost = arguments
    environment = MazeEnv(num_junctions, sight, look_cost, num_looks)
    policy = best_policy(*arguments)
    mazes = itertools.product(all_junctions(sight), repeat=num_junctions)
    returns = [play(environment, policy, options={"maze": maze}) for maze in mazes]
    assert np.mean(returns) == pytest.approx(environment.optimal_return(), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("num_looks", [9, 4])
def test_over_mazes_as_they_come_the_best_policy_earns_the_optimum_on_average(num_looks):
    environment = MazeEnv(num_looks=num_looks)
    policy = best_policy(3, 5, num_looks, COST)
    environment.reset(seed=7)
    returns = np.array([play(environment, policy) for _ in range(1500)])
    deviation = returns.std() / np.sqrt(len(returns))
    assert abs(returns.mean() - environment.optimal_return()) < 4 * deviation
    assert deviation < 0.015
