"""The examples run as they are written, each by its own command, if only for a moment."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLES = REPOSITORY / "envs" / "examples"
SAID = re.compile(r"^\d+\.\d% of 200 held-out images right, [1-4]\.\d\d glimpses each$", re.MULTILINE)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_an_example_trains_and_says_how_good_it_got(example: Path):
    folders = (REPOSITORY, REPOSITORY / "envs")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, str(example), "--steps", "2048"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert SAID.search(run.stdout), run.stdout
    assert "Warning" not in run.stderr


def test_there_is_an_example_for_each_library():
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {
        "sb3_ppo",
        "sb3_recurrent_ppo",
        "torchrl_ppo",
        "cleanrl_ppo",
    }
