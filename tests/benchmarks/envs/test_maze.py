"""The benchmark in the maze: that its figures are those of the agents that they are said to be of."""

import itertools
import json

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from benchmarks.envs import maze as benchmark
from glimpse_envs.maze.env import MazeEnv
from glimpse_envs.maze.generator import all_junctions

COST = MazeEnv().look_cost


@pytest.mark.parametrize(
    ("agent", "success", "looks"),
    [
        ("never looks", 1 / 27, 0.0),
        ("looks once", (2 / 3) ** 3, 1 + 2 / 3 + 4 / 9),
        ("the best of agents", 1.0, 5.0),
    ],
)
def test_the_exact_figures_of_agents_that_look_so_often(agent, success, looks):
    found = benchmark.exact(benchmark.SIMPLE_AGENTS[agent])
    assert found == pytest.approx({"return": success - COST * looks, "success": success, "looks": looks})


def test_the_best_of_agents_earns_the_optimum():
    assert benchmark.exact(benchmark.looking(2))["return"] == pytest.approx(MazeEnv().optimal_return(), abs=1e-12)


def test_the_exact_figure_is_the_mean_over_all_mazes(monkeypatch):
    monkeypatch.setattr(benchmark, "MazeEnv", lambda: MazeEnv(num_junctions=2, sight=2, num_looks=3))

    def hasty(seen):
        """Looks at all ways in the first half of its budget, and at none in the other; its looks come to differ."""
        direction, early = seen["direction"].argmax(axis=1), seen["time"][:, 0] < 0.5
        best = benchmark.looking(2)(seen)
        return np.where(early | (direction != benchmark.NOWHERE), best, 3 + direction % 3)

    mazes = list(itertools.product(all_junctions(2), repeat=2))
    episodes = benchmark.play(hasty, mazes)
    found = benchmark.exact(hasty)
    assert found["return"] == pytest.approx(np.mean([episode.earned for episode in episodes]), abs=1e-12)
    assert found["looks"] == pytest.approx(np.mean([episode.looks for episode in episodes]), abs=1e-12)
    assert found["success"] == pytest.approx(np.mean([episode.success for episode in episodes]), abs=1e-12)
    assert len({episode.looks for episode in episodes}) == 2


@pytest.mark.slow
def test_sampled_figures_agree_with_exact_ones():
    policy = benchmark.looking(1)
    drawn, known = benchmark.sampled(policy, 400), benchmark.exact(policy)
    assert abs(drawn["return"] - known["return"]) < 4 * drawn["standard_error"]
    assert drawn == benchmark.sampled(policy, 400), "held-out mazes stay the same"
    assert drawn != benchmark.sampled(policy, 400, benchmark.ALONG_THE_WAY)


def test_an_agent_at_random_hardly_comes_out():
    assert benchmark.sampled(benchmark.at_random(0), 200)["success"] < 0.12


@pytest.mark.slow
def test_everything_is_measured_and_drawn(tmp_path, capsys):
    output = tmp_path / "maze.json"
    assert benchmark.main(["--quick", "--output", str(output)]) == 0
    result = json.loads(output.read_text(encoding="utf-8"))
    assert result["optimum"] == pytest.approx(0.9)
    (run,) = result["runs"]
    assert run["curve"]["steps"] == [0, 512, 1024]
    assert len(run["curve"]["return"]) == 3
    assert run["short_of_optimum"] == pytest.approx(0.9 - run["exact"]["return"])
    assert [row["agent"] for row in result["others"]] == [benchmark.RANDOM, *benchmark.SIMPLE_AGENTS]
    assert (tmp_path / "maze.png").exists()
    printed = capsys.readouterr().out
    assert "a quick run: the figures mean nothing" in printed
    assert "the best of agents" in printed
