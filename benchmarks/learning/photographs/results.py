"""The figures of several calls in one file: those of earlier calls are kept, by seed and rival."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glimpse.files import write_whole


def read_result(file: Path | None) -> dict[str, Any]:
    """Read what earlier calls found; nothing where there is no file.

    Args:
        file: What they wrote.
    """
    return json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else {}


def write_result(result: Mapping[str, Any], file: Path | None) -> None:
    """Write figures, if there is a file to write to.

    Args:
        result: The figures.
        file: The file.
    """
    if file:
        write_whole(file, json.dumps(result, indent=2) + "\n")


def merge_results(earlier: Mapping[str, Any], latest: Mapping[str, Any]) -> dict[str, Any]:
    """Add the latest figures to those of earlier calls, and replace what was measured again.

    Args:
        earlier: What :func:`read_result` read. Figures of another set or another part of it, and of a quick run beside
            a full one, are dropped.
        latest: ``quick``, ``set`` and ``seeds``, which have ``product`` and ``rivals``; and more, which is taken as it
            is.
    """
    if any(earlier.get(name) != latest.get(name) for name in ("quick", "set", "cut")):
        return dict(latest)
    seeds = dict(earlier["seeds"])
    for seed, found in latest["seeds"].items():
        before = seeds.get(seed, {})
        seeds[seed] = {**before, **found, "rivals": {**before.get("rivals", {}), **found.get("rivals", {})}}
    return {**latest, "seeds": {seed: seeds[seed] for seed in sorted(seeds, key=int)}}
