"""The plan of a maze as an image and as text, with the agent, its current look, and the cells it has observed."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw

from glimpse.drawing.layout import even_size
from glimpse.drawing.palette import BACKGROUND, MUTED, OUTSIDE, RIGHT, TEXT, WRONG, time_colours
from glimpse.drawing.text import Colour, draw_text
from glimpse_envs.maze.generator import DIRECTIONS, MazeState, corridor_view

WALL, FLOOR, CLOSING, EXIT = range(4)
"""Kinds of cells of the plan; ``CLOSING`` is the wall that ends a corridor."""

_LETTERS = {WALL: "#", FLOOR: ".", CLOSING: "X", EXIT: "E"}
_POINTERS = ("<", "^", ">")
_STEPS = ((0, -1), (-1, 0), (0, 1))
"""A step of one cell in each direction, (rows, columns)."""
_LIT: dict[int, Colour] = {WALL: (92, 98, 112), FLOOR: TEXT, CLOSING: WRONG, EXIT: RIGHT}
_DARK: dict[int, Colour] = {WALL: OUTSIDE, FLOOR: (56, 60, 70), CLOSING: OUTSIDE, EXIT: (46, 92, 70)}
_AGENT, _VIEWED = (tuple(colour.tolist()) for colour in time_colours(2))
_SUPERSAMPLING = 3
_LONGEST_PLAN, _LOWEST_PLAN, _LARGEST_CELL, _SMALLEST_CELL = 640, 320, 24, 4
_PANEL = 190
_PADDING = 20

Place = tuple[int, int]
"""Row and column of a cell of the plan, from its upper left corner."""


class Plan(NamedTuple):
    """A maze from above; the agent enters at the bottom.

    A passage leads from the end of each side corridor back to the middle column. So each junction is above the previous
    one, and the agent arrives from below through any corridor.

    Attributes:
        cells: Kind of each cell.
        visible: Cells that the agent has observed.
        path: Corners of the agent's path, from the start to its position.
        viewed: Cells of the corridor that the agent looks into, the nearest first; empty before the first look at a
            junction.
    """

    cells: UInt8[np.ndarray, "rows columns"]
    visible: Bool[np.ndarray, "rows columns"]
    path: list[Place]
    viewed: list[Place]


def make_plan(state: MazeState, sight: int) -> Plan:
    """Make the plan of a maze.

    Args:
        state: The state of the episode.
        sight: Length of the view into a corridor, in cells.
    """
    middle, step = sight + 2, sight + 3
    rows = len(state.maze) * step + 2
    junctions = [(rows - 3 - step * index, middle) for index in range(len(state.maze))]
    cells, visible = np.full((rows, 2 * middle + 1), WALL, np.uint8), np.zeros((rows, 2 * middle + 1), bool)
    cells[rows - 2, middle] = FLOOR
    for (row, column), junction in zip(junctions, state.maze, strict=True):
        far = sight + 1
        cells[row - far, column - far : column + far + 1] = FLOOR
        cells[row - far : row, [column - far, column + far]] = FLOOR
        cells[row, column - far : column + far + 1] = FLOOR
        cells[row - far - 1 : row, column] = FLOOR
        for direction, wall in enumerate(junction):
            if wall:
                cells[_corridor((row, column), direction, wall)[-1]] = CLOSING
    cells[0, middle] = EXIT
    for place in junctions[: len(state.choices) + 1]:
        visible[place] = True
    for index, direction in state.looks:
        for row, column in _corridor(junctions[index], direction, sight):
            down, right = map(abs, _STEPS[direction])
            visible[row - right : row + right + 1, column - down : column + down + 1] = True
    viewed = [] if state.direction is None else _corridor(junctions[len(state.choices)], state.direction, sight)
    return Plan(cells, visible, _path(state, sight, junctions), viewed)


def write_plan(state: MazeState, sight: int) -> str:
    """Write the plan as text: ``@`` agent, ``#`` wall, ``.`` floor, ``X`` wall that ends a corridor, ``E`` exit.

    Arrow heads show the direction of the current look. Cells that the agent has not observed are blank.

    Args:
        state: The state of the episode.
        sight: Length of the view into a corridor, in cells.
    """
    plan = make_plan(state, sight)
    letters = np.vectorize(_LETTERS.get, otypes=[object])(plan.cells)
    letters[~plan.visible] = " "
    for place in plan.viewed:
        if plan.cells[place] == FLOOR:
            letters[place] = _POINTERS[state.direction or 0]
    letters[plan.path[-1]] = "@"
    return "\n".join([*("".join(row).rstrip() for row in letters), ", ".join(_status(state))])


def draw_plan(state: MazeState, sight: int) -> Image.Image:
    """Draw the plan, and beside it the status and the current view. Cells that the agent has not observed are dark.

    Args:
        state: The state of the episode.
        sight: Length of the view into a corridor, in cells.
    """
    plan = make_plan(state, sight)
    rows, columns = plan.cells.shape
    side = min(_LARGEST_CELL, max(_SMALLEST_CELL, _LONGEST_PLAN // rows))
    width, height = columns * side, max(rows * side, _LOWEST_PLAN)
    size = even_size((width + _PANEL + 3 * _PADDING, height + 2 * _PADDING))
    picture = Image.new("RGB", size, BACKGROUND)
    picture.paste(_draw_cells(plan, state, side), (_PADDING, _PADDING))
    _draw_panel(picture, (width + 2 * _PADDING, _PADDING), state, sight)
    return picture


def _corridor(junction: Place, direction: int, count: int) -> list[Place]:
    """The first cells of a corridor, the nearest first."""
    down, right = _STEPS[direction]
    return [(junction[0] + down * distance, junction[1] + right * distance) for distance in range(1, count + 1)]


def _path(state: MazeState, sight: int, junctions: list[Place]) -> list[Place]:
    """The corners of the agent's path."""
    row, middle = junctions[0]
    path, far = [(row + 1, middle)], sight + 1
    for (row, column), junction, direction in zip(junctions, state.maze, state.choices, strict=False):
        path.append((row, column))
        if junction[direction]:
            return [*path, *_corridor((row, column), direction, junction[direction] - 1)[-1:]]
        sideways = column + _STEPS[direction][1] * far
        path += [(row, sideways), (row - far, sideways), (row - far, column)]
    return [*path, (0, middle) if state.at_exit else junctions[len(state.choices)]]


def _draw_cells(plan: Plan, state: MazeState, side: int) -> Image.Image:
    """Draw the cells of the plan, the path and the agent; ``side`` is the side of a cell in pixels."""
    colours = np.zeros((*plan.cells.shape, 3), np.uint8)
    for kind in _LIT:
        colours[plan.cells == kind] = _DARK[kind]
        colours[(plan.cells == kind) & plan.visible] = _LIT[kind]
    for place in plan.viewed:
        colours[place] = (0.45 * colours[place] + 0.55 * np.array(_VIEWED)).astype(np.uint8)
    unit = side * _SUPERSAMPLING
    layer = Image.fromarray(colours).resize(
        (colours.shape[1] * unit, colours.shape[0] * unit), Image.Resampling.NEAREST
    )
    draw = ImageDraw.Draw(layer)
    corners = [((column + 0.5) * unit, (row + 0.5) * unit) for row, column in plan.path]
    draw.line(corners, _AGENT, unit // 5, joint="curve")
    x, y = corners[-1]
    if state.direction is not None:
        down, right = _STEPS[state.direction]
        tip = (x + 0.95 * unit * right, y + 0.95 * unit * down)
        ears = [(x + 0.34 * unit * sign * down, y + 0.34 * unit * sign * right) for sign in (1, -1)]
        draw.polygon([tip, *ears], fill=_AGENT)
    draw.circle((x, y), 0.4 * unit, fill=BACKGROUND)
    draw.circle((x, y), 0.33 * unit, fill=_AGENT)
    return layer.reduce(_SUPERSAMPLING)


def _draw_panel(picture: Image.Image, corner: Place, state: MazeState, sight: int) -> None:
    """Draw the status, the used budget, and the current view."""
    draw = ImageDraw.Draw(picture)
    left, top = corner
    verdict = RIGHT if state.at_exit else WRONG if state.over else MUTED
    for line, (text, colour) in enumerate(zip(_status(state), (TEXT, TEXT, verdict), strict=True)):
        draw_text(draw, (left, top + 8 + 26 * line), text, 16, _PANEL, colour, "lm")
    used = round(_PANEL * len(state.looks) / state.num_looks)
    top += 92
    draw.rectangle((left, top, left + _PANEL - 1, top + 7), fill=OUTSIDE)
    if used:
        draw.rectangle((left, top, left + used - 1, top + 7), fill=_VIEWED)
    draw_text(draw, (left, top + 34), "view", 16, _PANEL, MUTED, "lm")
    top += 54
    side = max(2, min(32, (picture.height - top - _PADDING) // sight))
    values = np.full((sight, 3), 0.5, np.float32)
    if state.direction is not None:
        values = corridor_view(state.maze[len(state.choices)][state.direction], sight)
    shades = np.array(OUTSIDE) * (1 - values[..., None]) + np.array(TEXT) * values[..., None]
    view = Image.fromarray(shades.astype(np.uint8)).resize((3 * side, sight * side), Image.Resampling.NEAREST)
    picture.paste(view, (left, top))


def _status(state: MazeState) -> tuple[str, str, str]:
    """Three lines: the current junction, the looks used, and the agent's situation."""
    count = len(state.maze)
    if state.at_exit:
        doing = "found the exit"
    elif state.at_dead_end:
        doing = "at a dead end"
    elif state.over_budget:
        doing = "has no look left"
    else:
        doing = "has not looked yet" if state.direction is None else f"looks {DIRECTIONS[state.direction]}"
    return (
        f"junction {min(state.junctions_passed + 1, count)} of {count}",
        f"{len(state.looks)} of {state.num_looks} looks",
        doing,
    )
