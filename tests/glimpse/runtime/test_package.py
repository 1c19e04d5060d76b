import os
import subprocess
import sys
from pathlib import Path

import pytest

import glimpse.runtime
from glimpse.runtime.session import GlimpseSession


def test_every_public_name_is_there():
    assert glimpse.runtime.GlimpseSession is GlimpseSession
    for name in glimpse.runtime.__all__:
        assert getattr(glimpse.runtime, name).__doc__
    with pytest.raises(AttributeError, match=r"module 'glimpse\.runtime' has no attribute 'Session'"):
        _ = glimpse.runtime.Session


@pytest.mark.child
def test_onnxruntime_is_imported_when_it_is_needed():
    program = (
        "import sys, glimpse.runtime.limits, glimpse.runtime.payload; assert 'onnxruntime' not in sys.modules\n"
        "from glimpse.runtime import GlimpseSession; assert 'onnxruntime' in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert (run.returncode, run.stderr) == (0, "")
