import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from glimpse_serve.gateway.rate_limits import RateLimiter

REPOSITORY = Path(__file__).resolve().parents[3]
HAMMER = """
import sys, time
from pathlib import Path
from glimpse_serve.gateway.rate_limits import RateLimiter

limiter, taken = RateLimiter(Path(sys.argv[1])), 0
end = time.monotonic() + float(sys.argv[2])
print("ready", flush=True)
while time.monotonic() < end:
    taken += limiter.take("alice", 50.0, 20) == 0
print(taken)
"""


@pytest.fixture
def now(monkeypatch) -> list[float]:
    """The time, to be set."""
    clock = [1000.0]
    monkeypatch.setattr("glimpse_serve.gateway.rate_limits.time.monotonic", lambda: clock[0])
    return clock


def test_a_bucket_is_full_at_first_and_fills_at_its_rate(now):
    limiter = RateLimiter()
    assert [limiter.take("a", 2.0, 3) for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    now[0] += 0.25
    assert limiter.take("a", 2.0, 3) == pytest.approx(0.25)
    now[0] += 0.25
    assert limiter.take("a", 2.0, 3) == 0
    now[0] += 100
    assert [limiter.take("a", 2.0, 3) for _ in range(4)] == [0, 0, 0, 0.5]


def test_everybody_has_a_bucket_of_his_own(now):
    limiter = RateLimiter()
    for name in ("a", "b", "ünicode", "\udcff", ""):
        assert [limiter.take(name, 1.0, 1) for _ in range(2)] == [0, 1]


def test_many_names_take_no_tokens_of_others(now):
    limiter = RateLimiter()
    assert limiter.take("alice", 1.0, 1) == 0
    for number in range(20_000):
        now[0] += 1e-6
        assert limiter.take(f"stranger {number}", 1.0, 1) == 0
    assert limiter.take("alice", 1.0, 1) in (0, pytest.approx(1 - 0.02, abs=1e-3))


def test_a_clock_that_goes_back_adds_no_tokens(now):
    limiter = RateLimiter()
    limiter.take("a", 1.0, 1)
    now[0] -= 10
    assert limiter.take("a", 1.0, 1) == 1


def hammer(file: Path, seconds: float) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "serve")))}
    command = [sys.executable, "-c", HAMMER, str(file), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.child
def test_processes_share_a_bucket_and_get_no_more_together_than_one_alone(tmp_path):
    file = tmp_path / "rates"
    with ExitStack() as stack:
        processes = [stack.enter_context(hammer(file, 1.0)) for _ in range(3)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        taken = [int(process.communicate()[0]) for process in processes]
    spent = time.monotonic() - started
    assert 20 <= sum(taken) <= 20 + 50 * (spent + 1.5)


@pytest.mark.child
def test_a_process_that_is_killed_releases_the_lock(tmp_path):
    file = tmp_path / "rates"
    for _ in range(3):
        with hammer(file, 30.0) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
    limiter = RateLimiter(file)
    assert limiter.take("bob", 1.0, 1) == 0
    limiter.close()
