"""What tests/conftest.py promises: signatures are checked, processes are marked, a program runs without the hook."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from jaxtyping import TypeCheckError

from glimpse.images import geometry


@pytest.mark.skipif(bool(os.environ.get("GLIMPSE_NO_TYPECHECK")), reason="GLIMPSE_NO_TYPECHECK is set")
def test_signatures_are_checked_under_pytest() -> None:
    with pytest.raises(TypeCheckError, match="windows"):
        geometry.windows("8", 1, 2)  # type: ignore[arg-type]


def test_a_test_that_is_not_marked_starts_no_python_process() -> None:
    with pytest.raises(RuntimeError, match=r"test_pytest_setup.* starts a Python process; mark it with @pytest\.mark"):
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_program_without_the_hook_that_fails_raises_what_it_printed(
    without_hook: Callable[..., str], tmp_path: Path
) -> None:
    printed = without_hook(
        "import os, sys; print(os.getcwd(), sys.argv[1:], os.environ['SIDE'], __name__)", "1", cwd=tmp_path, SIDE="2"
    )
    assert printed == f"{tmp_path} ['1'] 2 __main__\n"
    with pytest.raises(AssertionError, match=r"(?s)status 1\nbegun\n.*ValueError: nothing"):
        without_hook("print('begun'); raise ValueError('nothing')")
    assert without_hook("from glimpse.images import geometry; geometry.windows(8.0, 1, 2)") == ""
