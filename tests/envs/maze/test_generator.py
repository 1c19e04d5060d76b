import numpy as np
import pytest

from glimpse_envs.maze.generator import Junction, MazeState, all_junctions, corridor_view, draw_maze

MAZE = (Junction(3, 0, 1), Junction(0, 2, 2))


def test_every_junction_has_one_way_that_leads_on():
    junctions = list(all_junctions(4))
    assert len(junctions) == len(set(junctions)) == 3 * 4 * 4
    assert all(junction.count(0) == 1 and max(junction) <= 4 for junction in junctions)
    assert [junction.open_direction for junction in junctions] == [0] * 16 + [1] * 16 + [2] * 16


def test_mazes_are_drawn_evenly_among_all_that_there_are():
    every = list(all_junctions(2))
    count = 24_000
    drawn = draw_maze(count, 2, np.random.default_rng(5))
    expected = count / len(every)
    counts = np.array([drawn.count(junction) for junction in every])
    assert counts.sum() == count
    # The 0.999 quantile of chi square with 11 degrees of freedom.
    assert ((counts - expected) ** 2 / expected).sum() < 31.3


def test_the_same_generator_draws_the_same_maze():
    one, two = (draw_maze(6, 5, np.random.default_rng(seed)) for seed in (1, 1))
    assert one == two
    assert one != draw_maze(6, 5, np.random.default_rng(2))


def test_a_view_shows_the_wall_that_closes_a_way_and_nothing_where_it_is_open():
    open_way = corridor_view(0, 4)
    assert open_way.dtype == np.float32
    np.testing.assert_array_equal(open_way, [[0, 1, 0]] * 4)
    np.testing.assert_array_equal(corridor_view(1, 4), [[0, 1, 0]] * 3 + [[0, 0, 0]])
    np.testing.assert_array_equal(corridor_view(4, 4), [[0, 0, 0]] + [[0, 1, 0]] * 3)


def test_no_single_cell_of_a_view_tells_an_open_way_from_a_blind_one():
    blind = np.stack([corridor_view(wall, 5) for wall in range(1, 6)])
    assert (blind.max(axis=0) == corridor_view(0, 5)).all()


def test_a_walk_through_the_right_ways_comes_out():
    state = MazeState(MAZE, 4)
    assert (state.direction, state.junctions_passed, state.over) == (None, 0, False)
    state = state.look(2).look(1)
    assert (state.direction, state.looks) == (1, ((0, 2), (0, 1)))
    state = state.take(1)
    assert (state.direction, state.junctions_passed, state.over) == (None, 1, False)
    state = state.look(0)
    assert state.direction == 0
    state = state.take(0)
    assert (state.junctions_passed, state.at_exit, state.at_dead_end, state.over) == (2, True, False, True)


@pytest.mark.parametrize("before", [(), (1,)])
def test_a_blind_way_ends_the_walk(before):
    state = MazeState(MAZE, 4, choices=before).look(2).take(2)
    assert (state.junctions_passed, state.at_exit, state.at_dead_end, state.over) == (len(before), False, True, True)
    assert state.direction is None


def test_a_look_beyond_the_budget_ends_the_walk_and_shows_nothing():
    state = MazeState(MAZE, 1).look(0)
    assert not state.over
    beyond = state.look(1)
    assert (beyond.looks, beyond.over_budget, beyond.over) == (state.looks, True, True)
    assert not state.take(1).over
