import numpy as np
import pytest

from glimpse.drawing.palette import RIGHT, WRONG
from glimpse_envs.maze.drawing import CLOSING, EXIT, FLOOR, WALL, draw_plan, make_plan, write_plan
from glimpse_envs.maze.generator import Junction, MazeState, draw_maze

MAZE = (Junction(3, 1, 0), Junction(1, 0, 2))
SIGHT = 3


def reachable(cells: np.ndarray, start: tuple[int, int]) -> set[tuple[int, int]]:
    """All cells that one can walk to."""
    found, ahead = {start}, [start]
    while ahead:
        row, column = ahead.pop()
        for place in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            inside = 0 <= place[0] < cells.shape[0] and 0 <= place[1] < cells.shape[1]
            if inside and place not in found and cells[place] in (FLOOR, EXIT):
                found.add(place)
                ahead.append(place)
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("num_junctions", "sight"), [(1, 1), (2, 4), (5, 2)])
def test_one_can_walk_out_of_it_and_only_by_the_open_ways(num_junctions, sight, seed):
    maze = draw_maze(num_junctions, sight, np.random.default_rng(seed))
    cells = make_plan(MazeState(maze, 1), sight).cells
    start, out = (cells.shape[0] - 2, sight + 2), (0, sight + 2)
    assert out in reachable(cells, start)
    assert (cells == CLOSING).sum() == 2 * num_junctions
    assert (cells == EXIT).sum() == 1
    for index, junction in enumerate(maze):
        closed = [
            Junction(*(wall or 1 for wall in junction)) if index == other else maze[other]
            for other in range(num_junctions)
        ]
        shut = make_plan(MazeState(tuple(closed), 1), sight).cells
        assert out not in reachable(shut, start)


def test_the_edge_of_a_plan_is_wall_but_for_the_exit():
    cells = make_plan(MazeState(MAZE, 1), SIGHT).cells
    edge = np.concatenate([cells[0], cells[-1], cells[:, 0], cells[:, -1]])
    assert sorted(set(edge.tolist())) == [WALL, EXIT]


def test_only_what_was_looked_at_is_seen():
    state = MazeState(MAZE, 9)
    assert make_plan(state, SIGHT).visible.sum() == 1, "the junction where the agent stands"
    state = state.look(1)
    plan = make_plan(state, SIGHT)
    assert plan.visible.sum() == 1 + 3 * SIGHT
    assert [bool(plan.visible[place]) for place in plan.viewed] == [True] * SIGHT
    assert [int(plan.cells[place]) for place in plan.viewed] == [CLOSING, FLOOR, FLOOR]
    state = state.take(2)
    assert make_plan(state, SIGHT).visible.sum() == 1 + 3 * SIGHT + 1, "its way is not seen but for the next junction"
    assert make_plan(state, SIGHT).viewed == []


def test_the_path_runs_on_floor_to_where_the_agent_is():
    state = MazeState(MAZE, 9).take(2).take(1)
    plan = make_plan(state, SIGHT)
    assert plan.path[-1] == (0, SIGHT + 2)
    for (row, column), (next_row, next_column) in zip(plan.path[:-1], plan.path[1:], strict=True):
        assert row == next_row or column == next_column
        rows, columns = sorted((row, next_row)), sorted((column, next_column))
        crossed = plan.cells[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1]
        assert np.isin(crossed, (FLOOR, EXIT)).all()


@pytest.mark.parametrize(("way", "place"), [(0, (8, 3)), (1, (8, 5))])
def test_on_a_blind_way_the_agent_stops_before_the_wall(way, place):
    plan = make_plan(MazeState((Junction(3, 1, 0), *MAZE[1:]), 9).take(way), SIGHT)
    assert plan.path[-1] == (plan.cells.shape[0] - 3, place[1])


def test_a_plan_in_writing():
    state = MazeState(MAZE, 4).look(2).take(2).look(0)
    assert write_plan(state, SIGHT).split("\n") == [
        "",
        "",
        "",
        "",
        "  ###",
        "  <<X@",
        "  ###",
        "",
        "",
        "",
        "      ###",
        "     ....",
        "      ###",
        "",
        "junction 2 of 2, 2 of 4 looks, looks left",
    ]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (MazeState(MAZE, 1), "junction 1 of 2, 0 of 1 looks, has not looked yet"),
        (MazeState(MAZE, 1).look(1).look(0), "junction 1 of 2, 1 of 1 looks, has no look left"),
        (MazeState(MAZE, 1).take(0), "junction 1 of 2, 0 of 1 looks, at a dead end"),
        (MazeState(MAZE, 1).take(2).take(1), "junction 2 of 2, 0 of 1 looks, found the exit"),
    ],
)
def test_the_last_line_says_how_it_stands(state, words):
    assert write_plan(state, SIGHT).split("\n")[-1] == words
    draw_plan(state, SIGHT)


def shows(state: MazeState, colour: tuple[int, ...]) -> bool:
    return bool((np.array(draw_plan(state, SIGHT)) == colour).all(axis=-1).any())


def test_a_wall_across_a_way_lights_up_when_it_is_seen():
    state = MazeState(MAZE, 9)
    assert not shows(state, WRONG)
    assert not shows(state, RIGHT)
    seen = state.look(0).look(2)
    assert shows(seen, WRONG)
    assert not shows(state.look(2), WRONG)


def test_what_was_never_looked_at_is_darker_than_what_was():
    state = MazeState(MAZE, 9)
    before, after = (np.array(draw_plan(shown, SIGHT), int) for shown in (state, state.look(0).look(2)))
    assert (after - before).sum() > 0
    plan = before[20:-20, 20 : -190 - 40]
    assert np.median(plan.max(axis=-1)) < 64


@pytest.mark.parametrize(("num_junctions", "sight"), [(1, 1), (1, 12), (40, 2)])
def test_mazes_of_any_size_fit_a_picture_of_moderate_size(num_junctions, sight):
    state = MazeState(draw_maze(num_junctions, sight, np.random.default_rng(0)), 3).look(0)
    picture = draw_plan(state, sight)
    assert picture.height <= 900
    assert picture.width <= 1100
