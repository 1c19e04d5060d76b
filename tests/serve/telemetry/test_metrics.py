import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from glimpse_serve.settings import SHARED
from glimpse_serve.telemetry.metrics import FOLDER_VARIABLE, MAX_LABEL_SETS, Metrics

ROOT = Path(__file__).resolve().parents[3]
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"

WORKER = """
import sys
from glimpse_serve.telemetry.metrics import Metrics
metrics = Metrics()
metrics.loaded("digits", 1, "ab" * 32)
print("ready", flush=True)
for line in sys.stdin:
    answer = eval(line, {"m": metrics})
    print(repr(answer), flush=True)
"""


def report(text: bytes) -> dict[str, float]:
    """Samples by what stands before their values, labels in order."""
    return {
        "".join((sample.name, *(f",{name}={value}" for name, value in sorted(sample.labels.items())))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def read_openmetrics(text: bytes) -> dict[str, Any]:
    families = openmetrics.text_string_to_metric_families(text.decode())  # type: ignore[no-untyped-call]
    return {family.name: family for family in families}


class Worker:
    """A process with metrics that evaluates expressions; it ends with the context."""

    def __init__(self, shared: Path | None) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in (SHARED, FOLDER_VARIABLE)}
        environment["PYTHONPATH"] = os.pathsep.join(str(ROOT / folder) for folder in ("", "envs", "serve"))
        if shared is not None:
            environment[SHARED] = str(shared)
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )

    def __enter__(self) -> Self:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def do(self, expression: str):
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return eval(self.process.stdout.readline())

    def report(self) -> dict[str, float]:
        return report(self.do('m.render("")')[0])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def workers(tmp_path):
    with ExitStack() as made:

        def make(shared: Path | None = tmp_path) -> Worker:
            worker = Worker(shared)
            made.callback(worker.process.kill)
            return made.enter_context(worker)

        yield make


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.delenv(SHARED, raising=False)
    counted = Metrics()
    counted.loaded("digits", 1, "0123456789abcdef")
    return counted


def rendered(counted: Metrics) -> dict[str, float]:
    return report(counted.render("")[0])


def test_a_request_is_counted_by_route_method_and_status(counted):
    counted.count_request("/v1/classify", "POST", 200, 0.003)
    counted.count_request("/v1/classify", "POST", 200, 0.3)
    counted.count_request("/v1/classify", "POST", 503, 0.0001)
    found = rendered(counted)
    assert found["glimpse_requests_total,method=POST,route=/v1/classify,status=200"] == 2
    assert found["glimpse_requests_total,method=POST,route=/v1/classify,status=503"] == 1
    assert found["glimpse_request_seconds_count,route=/v1/classify"] == 3
    assert found["glimpse_request_seconds_sum,route=/v1/classify"] == pytest.approx(0.3031)
    assert found["glimpse_request_seconds_bucket,le=0.005,route=/v1/classify"] == 2


def test_what_runs_and_what_waits_goes_up_and_down(counted):
    counted.request_started()
    counted.request_started()
    counted.request_ended()
    counted.set_queue_length("digits", 7)
    counted.set_queue_length("digits", 3)
    found = rendered(counted)
    assert found["glimpse_requests_running"] == 1
    assert found["glimpse_queue_waiting,model=digits"] == 3


@pytest.mark.parametrize("stage", ["read", "decode", "queue", "model", "answer"])
def test_each_stage_has_a_histogram(counted, stage):
    counted.observe_stage("digits", stage, 0.02)
    found = rendered(counted)
    assert found[f"glimpse_stage_seconds_bucket,le=0.01,model=digits,stage={stage}"] == 0
    assert found[f"glimpse_stage_seconds_bucket,le=0.025,model=digits,stage={stage}"] == 1


def test_classifications_are_counted_by_glimpses_reason_and_class(counted):
    counted.observe_batch("digits", 3)
    counted.count_classification("digits", 4, "confident", "seven")
    counted.count_classification("digits", 6, "budget", "seven")
    found = rendered(counted)
    assert found["glimpse_batch_images_sum,model=digits"] == 3
    assert found["glimpse_batch_images_bucket,le=2.0,model=digits"] == 0
    assert found["glimpse_glimpses_bucket,le=5.0,model=digits"] == 1
    assert found["glimpse_glimpses_sum,model=digits"] == 10
    assert found["glimpse_stops_total,model=digits,reason=confident"] == 1
    assert found["glimpse_stops_total,model=digits,reason=budget"] == 1
    assert found["glimpse_answers_total,class=seven,model=digits"] == 2


def test_errors_of_requests_connections_and_models_are_counted_separately(counted):
    counted.count_error("image")
    counted.count_error("overload")
    counted.count_error("overload")
    counted.count_rejected_connection("slow")
    counted.load_rejected("digits")
    counted.load_rejected("whatever-lies-there")
    found = rendered(counted)
    assert found["glimpse_refusals_total,kind=image"] == 1
    assert found["glimpse_refusals_total,kind=overload"] == 2
    assert found["glimpse_connections_refused_total,kind=slow"] == 1
    assert found["glimpse_model_loads_refused_total,model=digits"] == 1
    assert found["glimpse_model_loads_refused_total,model=other"] == 1


def test_a_model_is_reported_while_it_is_served(counted):
    first = "glimpse_model_loaded,model=digits,sha256=0123456789ab,version=1"
    second = "glimpse_model_loaded,model=digits,sha256=ffffffffffff,version=2"
    assert rendered(counted)[first] == 1
    counted.loaded("digits", 2, "f" * 64)
    counted.unloaded("digits", 1)
    counted.unloaded("digits", 1)
    counted.unloaded("never", 9)
    found = rendered(counted)
    assert found[second] == 1
    assert first not in found


def test_a_version_that_is_loaded_again_is_reported_once(counted):
    counted.loaded("digits", 1, "f" * 64)
    assert [name for name in rendered(counted) if name.startswith("glimpse_model_loaded")] == [
        "glimpse_model_loaded,model=digits,sha256=ffffffffffff,version=1"
    ]


def test_the_build_is_reported(counted):
    from glimpse import __version__

    [build] = [name for name in rendered(counted) if name.startswith("glimpse_build_info")]
    assert f"version={__version__}" in build


def test_what_clients_make_up_is_no_label(counted):
    counted.count_request("/v1/classify", "PROPFIND\n", 200, 0.1)
    counted.count_request("/v1/classify", "GET", 0, 0.1)
    counted.observe_stage("no-such-model", "read", 0.1)
    counted.count_classification("no-such-model", 1, "confident", "seven")
    found = rendered(counted)
    assert found["glimpse_requests_total,method=other,route=/v1/classify,status=200"] == 1
    assert found["glimpse_requests_total,method=GET,route=/v1/classify,status=other"] == 1
    assert found["glimpse_stage_seconds_count,model=other,stage=read"] == 1
    assert not [name for name in found if "no-such-model" in name]


def test_the_combinations_of_labels_are_bounded(counted):
    for number in range(MAX_LABEL_SETS + 50):
        counted.count_request(f"/{number}", "GET", 404, 0.1)
    found = rendered(counted)
    assert len([name for name in found if name.startswith("glimpse_requests_total")]) == MAX_LABEL_SETS + 1
    assert found["glimpse_requests_total,method=other,route=other,status=other"] == 50
    assert found["glimpse_request_seconds_count,route=other"] == 50


def test_instances_know_nothing_of_each_other(counted):
    other = Metrics()
    other.count_error("image")
    assert "glimpse_refusals_total,kind=image" not in rendered(counted)


def test_openmetrics_is_returned_to_clients_that_accept_it(counted):
    counted.count_request("/v1/classify", "POST", 200, 0.003)
    counted.count_classification("digits", 4, "confident", 'a "class"\\with\nmarks')
    text, media_type = counted.render(OPENMETRICS)
    assert media_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert text.endswith(b"# EOF\n")
    families = read_openmetrics(text)
    assert families["glimpse_requests"].samples[0].value == 1
    assert families["glimpse_answers"].samples[0].labels["class"] == 'a "class"\\with\nmarks'


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=none", "text/html", "\x00,;=;"])
def test_everybody_else_gets_text(counted, accept):
    text, media_type = counted.render(accept)
    assert media_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"_created" not in text
    assert text.startswith(b"# HELP glimpse_")


def test_a_version_that_is_none_is_no_fault(counted):
    assert counted.render("application/openmetrics-text;version=abc")[1].startswith("application/openmetrics-text")


@pytest.mark.child
def test_every_worker_reports_the_sum_of_all(workers, tmp_path):
    first, second = workers(), workers()
    for worker, waiting in ((first, 2), (second, 3)):
        worker.do('m.count_request("/v1/classify", "POST", 200, 0.003)')
        worker.do('m.observe_stage("digits", "model", 0.02)')
        worker.do("m.request_started()")
        worker.do(f'm.set_queue_length("digits", {waiting})')
    found = second.report()
    assert found == first.report()
    assert found["glimpse_requests_total,method=POST,route=/v1/classify,status=200"] == 2
    assert found["glimpse_stage_seconds_bucket,le=0.01,model=digits,stage=model"] == 0
    assert found["glimpse_stage_seconds_bucket,le=0.025,model=digits,stage=model"] == 2
    assert found["glimpse_stage_seconds_count,model=digits,stage=model"] == 2
    assert found["glimpse_requests_running"] == 2
    assert found["glimpse_queue_waiting,model=digits"] == 5
    assert found["glimpse_model_loaded,model=digits,sha256=abababababab,version=1"] == 2
    assert [value for name, value in found.items() if name.startswith("glimpse_build_info")] == [1]
    assert {file.parent.name for file in tmp_path.rglob("*.db")} == {"metrics"}
    text, media_type = first.do(f"m.render({OPENMETRICS!r})")
    assert media_type.startswith("application/openmetrics-text")
    assert read_openmetrics(text).keys() >= {"glimpse_requests", "glimpse_stage_seconds"}


@pytest.mark.child
@pytest.mark.parametrize("announced", [True, False])
def test_of_a_worker_that_was_killed_the_counts_stay(workers, tmp_path, monkeypatch, announced):
    dying, living = workers(), workers()
    for worker in (dying, living):
        worker.do('m.count_request("/v1/classify", "POST", 200, 0.003)')
        worker.do("m.request_started()")
        worker.do('m.set_queue_length("digits", 4)')
    dying.kill()
    if announced:
        monkeypatch.setenv(SHARED, str(tmp_path))
        Metrics.worker_died(dying.process.pid)
        assert not list(tmp_path.rglob(f"gauge*_{dying.process.pid}.db"))
    heir = workers()
    heir.do('m.count_request("/v1/classify", "POST", 200, 0.003)')
    found = heir.report()
    assert found["glimpse_requests_total,method=POST,route=/v1/classify,status=200"] == 3
    assert found["glimpse_request_seconds_count,route=/v1/classify"] == 3
    assert found["glimpse_requests_running"] == 1
    assert found["glimpse_queue_waiting,model=digits"] == 4
    assert found["glimpse_model_loaded,model=digits,sha256=abababababab,version=1"] == 2


@pytest.mark.child
def test_a_worker_does_not_go_on_with_the_present_of_one_whose_number_it_has(workers, tmp_path):
    dying = workers()
    dying.do("m.request_started()")
    [file] = tmp_path.rglob("gauge_livesum_*.db")
    heir = (
        f"import os, shutil; shutil.copy({str(file)!r}, {str(file.parent)!r} + f'/gauge_livesum_{{os.getpid()}}.db')\n"
        "from glimpse_serve.telemetry.metrics import Metrics; m = Metrics(); print(m.render(''))"
    )
    dying.kill()
    environment = {**os.environ, SHARED: str(tmp_path), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'serve'}"}
    run = subprocess.run([sys.executable, "-c", heir], capture_output=True, env=environment, text=True, check=True)
    assert report(eval(run.stdout)[0])["glimpse_requests_running"] == 0


@pytest.mark.child
def test_an_unloaded_model_is_not_reported_by_any_worker(workers):
    first, second = workers(), workers()
    first.do('m.unloaded("digits", 1)')
    assert second.report()["glimpse_model_loaded,model=digits,sha256=abababababab,version=1"] == 1
    second.do('m.unloaded("digits", 1)')
    assert not [name for name in first.report() if name.startswith("glimpse_model_loaded")]


@pytest.mark.child
def test_the_file_of_a_worker_that_just_starts_does_no_harm(workers, tmp_path):
    worker = workers()
    (tmp_path / "metrics" / f"counter_{os.getpid()}.db").touch()
    assert worker.report()["glimpse_requests_running"] == 0


@pytest.mark.child
def test_one_process_writes_no_files(workers, tmp_path):
    alone = workers(None)
    alone.do('m.count_error("image")')
    assert alone.report()["glimpse_refusals_total,kind=image"] == 1
    assert not list(tmp_path.iterdir())


def test_workers_do_not_count_in_memory_by_mistake(monkeypatch, tmp_path):
    monkeypatch.setenv(SHARED, str(tmp_path))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(
        RuntimeError, match=r"expected prometheus_client to be imported by the metrics.* set PROMETHEUS"
    ):
        Metrics()
    assert FOLDER_VARIABLE not in os.environ


def test_nothing_is_forgotten_where_nothing_is_shared(monkeypatch, tmp_path):
    monkeypatch.delenv(SHARED, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "gauge_livesum_7.db").touch()
    Metrics.worker_died(7)
    assert (tmp_path / "metrics" / "gauge_livesum_7.db").exists()
