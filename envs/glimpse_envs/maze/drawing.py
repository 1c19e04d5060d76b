"""The plan of a maze, as a picture and as text: where the agent is, where it looks, and what it has seen."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw

from glimpse.drawing.palette import BACKGROUND, MUTED, OUTSIDE, RIGHT, TEXT, WRONG, time_colours
from glimpse.drawing.text import Colour, draw_text
from glimpse_envs.maze.generator import WAYS, Walk, look_along

WALL, FLOOR, CLOSING, EXIT = range(4)
"""What a cell of the plan is; ``CLOSING`` is the wall across a blind way."""

_LETTERS = {WALL: "#", FLOOR: ".", CLOSING: "X", EXIT: "E"}
_POINTERS = ("<", "^", ">")
_STEPS = ((0, -1), (-1, 0), (0, 1))
"""One cell along each way, (rows, columns)."""
_LIT: dict[int, Colour] = {WALL: (92, 98, 112), FLOOR: TEXT, CLOSING: WRONG, EXIT: RIGHT}
_DARK: dict[int, Colour] = {WALL: OUTSIDE, FLOOR: (56, 60, 70), CLOSING: OUTSIDE, EXIT: (46, 92, 70)}
_AGENT, _GAZE = (tuple(colour.tolist()) for colour in time_colours(2))
_SUPERSAMPLING = 3
_LONGEST_PLAN, _LOWEST_PLAN, _LARGEST_CELL, _SMALLEST_CELL = 640, 320, 24, 4
_PANEL = 190
_PADDING = 20

Place = tuple[int, int]
"""(row, column) of a cell of the plan, from its upper left corner."""


class Plan(NamedTuple):
    """A maze seen from above, the agent coming from below.

    From the end of an open way to the left or to the right, a passage leads back to the middle. So each junction lies
    above the one before, and the agent comes to it from below whichever way it took.

    Attributes:
        cells: What each cell is.
        seen: Which of them the agent has looked at.
        path: The corners of the agent's path, from its start to where it is.
        gaze: The cells along the way that it looks at, the nearest first; none before the first look at a junction.
    """

    cells: UInt8[np.ndarray, "rows columns"]
    seen: Bool[np.ndarray, "rows columns"]
    path: list[Place]
    gaze: list[Place]


def plan_of(walk: Walk, sight: int) -> Plan:
    """Lay out a maze, with what an agent did in it.

    Args:
        walk: The maze and the agent's doing.
        sight: Cells that the agent sees along a way.
    """
    middle, step = sight + 2, sight + 3
    rows = len(walk.maze) * step + 2
    junctions = [(rows - 3 - step * index, middle) for index in range(len(walk.maze))]
    cells, seen = np.full((rows, 2 * middle + 1), WALL, np.uint8), np.zeros((rows, 2 * middle + 1), bool)
    cells[rows - 2, middle] = FLOOR
    for (row, column), junction in zip(junctions, walk.maze, strict=True):
        far = sight + 1
        cells[row - far, column - far : column + far + 1] = FLOOR
        cells[row - far : row, [column - far, column + far]] = FLOOR
        cells[row, column - far : column + far + 1] = FLOOR
        cells[row - far - 1 : row, column] = FLOOR
        for way, wall in enumerate(junction):
            if wall:
                cells[_strip((row, column), way, wall)[-1]] = CLOSING
    cells[0, middle] = EXIT
    for place in junctions[: len(walk.taken) + 1]:
        seen[place] = True
    for index, way in walk.looked:
        for row, column in _strip(junctions[index], way, sight):
            down, right = map(abs, _STEPS[way])
            seen[row - right : row + right + 1, column - down : column + down + 1] = True
    gaze = [] if walk.direction is None else _strip(junctions[len(walk.taken)], walk.direction, sight)
    return Plan(cells, seen, _path(walk, sight, junctions), gaze)


def write_plan(walk: Walk, sight: int) -> str:
    """Write the plan down: ``@`` the agent, ``#`` wall, ``.`` floor, ``X`` the wall across a blind way, ``E`` the exit.

    An arrow head says which way the agent looks. What it never looked at is left blank.

    Args:
        walk: The maze and the agent's doing.
        sight: Cells that the agent sees along a way.
    """
    plan = plan_of(walk, sight)
    letters = np.vectorize(_LETTERS.get, otypes=[object])(plan.cells)
    letters[~plan.seen] = " "
    for place in plan.gaze:
        if plan.cells[place] == FLOOR:
            letters[place] = _POINTERS[walk.direction or 0]
    letters[plan.path[-1]] = "@"
    return "\n".join([*("".join(row).rstrip() for row in letters), ", ".join(_status(walk))])


def draw_plan(walk: Walk, sight: int) -> Image.Image:
    """Draw the plan, and beside it what the agent sees and what it has done. What it never looked at lies in the dark.

    Args:
        walk: The maze and the agent's doing.
        sight: Cells that the agent sees along a way.
    """
    plan = plan_of(walk, sight)
    rows, columns = plan.cells.shape
    side = min(_LARGEST_CELL, max(_SMALLEST_CELL, _LONGEST_PLAN // rows))
    width, height = columns * side, max(rows * side, _LOWEST_PLAN)
    picture = Image.new("RGB", (width + _PANEL + 3 * _PADDING, height + 2 * _PADDING), BACKGROUND)
    picture.paste(_draw_cells(plan, walk, side), (_PADDING, _PADDING))
    _draw_panel(picture, (width + 2 * _PADDING, _PADDING), walk, sight)
    return picture


def _strip(junction: Place, way: int, count: int) -> list[Place]:
    """The cells along a way, the nearest first."""
    down, right = _STEPS[way]
    return [(junction[0] + down * distance, junction[1] + right * distance) for distance in range(1, count + 1)]


def _path(walk: Walk, sight: int, junctions: list[Place]) -> list[Place]:
    """The corners of the agent's path."""
    row, middle = junctions[0]
    path, far = [(row + 1, middle)], sight + 1
    for (row, column), junction, way in zip(junctions, walk.maze, walk.taken, strict=False):
        path.append((row, column))
        if junction[way]:
            return [*path, *_strip((row, column), way, junction[way] - 1)[-1:]]
        sideways = column + _STEPS[way][1] * far
        path += [(row, sideways), (row - far, sideways), (row - far, column)]
    return [*path, (0, middle) if walk.escaped else junctions[len(walk.taken)]]


def _draw_cells(plan: Plan, walk: Walk, side: int) -> Image.Image:
    """Draw the plan itself, each cell so many pixels wide."""
    colours = np.zeros((*plan.cells.shape, 3), np.uint8)
    for kind in _LIT:
        colours[plan.cells == kind] = _DARK[kind]
        colours[(plan.cells == kind) & plan.seen] = _LIT[kind]
    for place in plan.gaze:
        colours[place] = (0.45 * colours[place] + 0.55 * np.array(_GAZE)).astype(np.uint8)
    unit = side * _SUPERSAMPLING
    layer = Image.fromarray(colours).resize(
        (colours.shape[1] * unit, colours.shape[0] * unit), Image.Resampling.NEAREST
    )
    draw = ImageDraw.Draw(layer)
    corners = [((column + 0.5) * unit, (row + 0.5) * unit) for row, column in plan.path]
    draw.line(corners, _AGENT, unit // 5, joint="curve")
    x, y = corners[-1]
    if walk.direction is not None:
        down, right = _STEPS[walk.direction]
        tip = (x + 0.95 * unit * right, y + 0.95 * unit * down)
        ears = [(x + 0.34 * unit * sign * down, y + 0.34 * unit * sign * right) for sign in (1, -1)]
        draw.polygon([tip, *ears], fill=_AGENT)
    draw.circle((x, y), 0.4 * unit, fill=BACKGROUND)
    draw.circle((x, y), 0.33 * unit, fill=_AGENT)
    return layer.reduce(_SUPERSAMPLING)


def _draw_panel(picture: Image.Image, corner: Place, walk: Walk, sight: int) -> None:
    """Write what the agent has done, and draw what it sees as it sees it."""
    draw = ImageDraw.Draw(picture)
    left, top = corner
    verdict = RIGHT if walk.escaped else WRONG if walk.over else MUTED
    for line, (text, colour) in enumerate(zip(_status(walk), (TEXT, TEXT, verdict), strict=True)):
        draw_text(draw, (left, top + 8 + 26 * line), text, 16, _PANEL, colour, "lm")
    used = round(_PANEL * len(walk.looked) / walk.num_looks)
    top += 92
    draw.rectangle((left, top, left + _PANEL - 1, top + 7), fill=OUTSIDE)
    if used:
        draw.rectangle((left, top, left + used - 1, top + 7), fill=_GAZE)
    draw_text(draw, (left, top + 34), "it sees", 16, _PANEL, MUTED, "lm")
    top += 54
    side = max(2, min(32, (picture.height - top - _PADDING) // sight))
    values = np.full((sight, 3), 0.5, np.float32)
    if walk.direction is not None:
        values = look_along(walk.maze[len(walk.taken)][walk.direction], sight)
    shades = np.array(OUTSIDE) * (1 - values[..., None]) + np.array(TEXT) * values[..., None]
    view = Image.fromarray(shades.astype(np.uint8)).resize((3 * side, sight * side), Image.Resampling.NEAREST)
    picture.paste(view, (left, top))


def _status(walk: Walk) -> tuple[str, str, str]:
    """How far the agent has come, what it has spent, and what it is doing."""
    count = len(walk.maze)
    if walk.escaped:
        doing = "found the exit"
    elif walk.lost:
        doing = "at a blind end"
    elif walk.exhausted:
        doing = "has no look left"
    else:
        doing = "has not looked yet" if walk.direction is None else f"looks {WAYS[walk.direction]}"
    return (
        f"junction {min(walk.passed + 1, count)} of {count}",
        f"{len(walk.looked)} of {walk.num_looks} looks",
        doing,
    )
