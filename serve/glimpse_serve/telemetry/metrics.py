"""Prometheus metrics of the service.

A single process keeps its values in memory. Workers that share a folder (:data:`SHARED` names it) keep their values in
files in it, by prometheus_client's multiprocess mode, and every worker reports the sums of all. That library takes its
mode from the environment when it is imported, so it is imported when the metrics are created and not before. In that
mode a process has one :class:`Metrics`.

Clients can't create label values: an unknown method or model is counted as ``other``, and so is everything beyond a
limit on the combinations of a metric's labels.
"""

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import glimpse
from glimpse_serve.settings import SHARED

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
    from prometheus_client.registry import Collector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable from which prometheus_client takes its folder."""
SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histograms."""
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
GLIMPSE_BUCKETS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
HTTP_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"))
OTHER = "other"
MAX_LABEL_SETS = 1000
"""Largest number of label combinations of a metric."""
MAX_CLASS_LABEL_SETS = 20_000
"""The same for the classes of the models."""
_NAME = "glimpse_"
_LOADED = f"{_NAME}model_loaded"


class Metrics:
    """The metrics of a process.

    Raises:
        RuntimeError: When workers share a folder and prometheus_client was imported before without it.
    """

    def __init__(self) -> None:
        folder = _shared_folder()
        from prometheus_client import CollectorRegistry

        self._registry = CollectorRegistry()
        self._collector: Collector = _Collector(self._registry, folder)
        self._models: set[str] = set()
        self._sha256: dict[tuple[str, int], str] = {}

        self._requests = self._counter("requests", "Completed requests.", "route", "method", "status")
        self._seconds = self._histogram(
            "request_seconds", "Duration of a request, from its arrival to its end.", SECONDS_BUCKETS, "route"
        )
        self._errors = self._counter("refusals", "Requests that ended with an error, by kind.", "kind")
        self._running = self._gauge("requests_running", "Running requests.")[()]
        self._stages = self._histogram(
            "stage_seconds", "Duration of the stages of a request.", SECONDS_BUCKETS, "model", "stage"
        )
        self._batches = self._histogram("batch_images", "Images in a batch.", BATCH_BUCKETS, "model")
        self._waiting = self._gauge("queue_waiting", "Requests that wait for a model.", "model")
        self._glimpses = self._histogram("glimpses", "Glimpses taken of an image.", GLIMPSE_BUCKETS, "model")
        self._reasons = self._counter("stops", "Images by the reason why the model stopped.", "model", "reason")
        self._classes = self._counter("answers", "Images by predicted class.", "model", "class")
        self._classes.max_label_sets = MAX_CLASS_LABEL_SETS
        self._loaded = self._gauge("model_loaded", "Processes that serve a model.", "model", "version", "sha256")
        self._loaded.max_label_sets = sys.maxsize  # Only the operator adds models, over months many versions.
        self._rejected_loads = self._counter("model_loads_refused", "Model files that were rejected.", "model")
        self._connections = self._counter(
            "connections_refused", "Connections that were closed because of a fault, by kind.", "kind"
        )
        build = self._gauge("build_info", "1, with the versions.", "version", "python", mode="livemax")
        build[glimpse.__version__, platform.python_version()].set(1)

    def request_started(self) -> None:
        """Count a running request."""
        self._running.inc()

    def request_ended(self) -> None:
        """Count a running request less."""
        self._running.dec()

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a completed request.

        Args:
            route: The template of its path.
            method: HTTP method.
            status: HTTP status; 0 for none.
            seconds: Its duration.
        """
        label = status if 100 <= status <= 599 else OTHER
        self._requests[route, method if method in HTTP_METHODS else OTHER, label].inc()
        self._seconds[route,].observe(seconds)

    def count_error(self, kind: str) -> None:
        """Count a request that ended with an error.

        Args:
            kind: Kind of the error.
        """
        self._errors[kind,].inc()

    def observe_stage(self, model: str, stage: str, seconds: float) -> None:
        """Observe the duration of a stage of a request.

        Args:
            model: The model's name.
            stage: ``read``, ``decode``, ``queue``, ``model`` or ``answer``.
            seconds: Its duration.
        """
        self._stages[self._known(model), stage].observe(seconds)

    def observe_batch(self, model: str, size: int) -> None:
        """Observe the size of a batch.

        Args:
            model: The model's name.
            size: Number of images.
        """
        self._batches[self._known(model),].observe(size)

    def set_queue_length(self, model: str, waiting: int) -> None:
        """Set the number of waiting requests.

        Args:
            model: The model's name.
            waiting: Number of requests.
        """
        self._waiting[self._known(model),].set(waiting)

    def count_classification(self, model: str, glimpses: int, reason: str, label: str) -> None:
        """Count a classified image.

        Args:
            model: The model's name.
            glimpses: Number of glimpses taken.
            reason: Why the model stopped.
            label: The predicted class.
        """
        model = self._known(model)
        self._glimpses[model,].observe(glimpses)
        self._reasons[model, reason].inc()
        self._classes[model, label].inc()

    def loaded(self, name: str, version: int, sha256: str) -> None:
        """Record that a model was loaded; from now on its requests are counted under its name.

        Args:
            name: Its name.
            version: Its version.
            sha256: Hash of its file; the label holds the first 12 digits.
        """
        self.unloaded(name, version)
        self._models.add(name)
        self._sha256[name, version] = sha256[:12]
        self._loaded[name, version, sha256[:12]].set(1)

    def unloaded(self, name: str, version: int) -> None:
        """Record that a model was unloaded.

        Args:
            name: Its name.
            version: Its version.
        """
        sha256 = self._sha256.pop((name, version), None)
        if sha256 is not None:
            self._loaded[name, version, sha256].set(0)

    def load_rejected(self, name: str) -> None:
        """Count a rejected model file.

        Args:
            name: The model's name.
        """
        self._rejected_loads[self._known(name),].inc()

    def count_rejected_connection(self, kind: str) -> None:
        """Count a connection that was closed before a request was complete.

        Args:
            kind: The reason, in a word.
        """
        self._connections[kind,].inc()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Render all metrics. With many workers this takes milliseconds: call it in a thread.

        Args:
            accept: The request's ``Accept`` header. prometheus_client's own parser fails for invalid versions, so only
                the media type is searched here.

        Returns:
            OpenMetrics 1.0 if the client accepts it, else Prometheus' text format; and the media type.
        """
        from prometheus_client import exposition
        from prometheus_client.openmetrics import exposition as openmetrics

        if "application/openmetrics-text" in accept.lower():
            text: bytes = openmetrics.generate_latest(self._collector)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return exposition.generate_latest(self._collector), exposition.CONTENT_TYPE_PLAIN_0_0_4

    @staticmethod
    def worker_died(pid: int) -> None:
        """Remove the gauges of a worker that has ended; its counters stay. Any process may call this.

        Args:
            pid: Process id of the worker.
        """
        shared = os.environ.get(SHARED)
        if shared:
            for file in Path(shared, "metrics").glob(f"gauge_live*_{pid}.db"):
                file.unlink(missing_ok=True)

    def _known(self, model: str) -> str:
        return model if model in self._models else OTHER

    def _counter(self, name: str, description: str, *labels: str) -> "_LabelledMetric":
        from prometheus_client import Counter

        return _LabelledMetric(Counter(_NAME + name, description, labels, registry=self._registry))

    def _gauge(
        self, name: str, description: str, *labels: str, mode: Literal["livesum", "livemax"] = "livesum"
    ) -> "_LabelledMetric":
        from prometheus_client import Gauge

        return _LabelledMetric(
            Gauge(_NAME + name, description, labels, registry=self._registry, multiprocess_mode=mode)
        )

    def _histogram(self, name: str, description: str, bounds: Sequence[float | int], *labels: str) -> "_LabelledMetric":
        from prometheus_client import Histogram

        return _LabelledMetric(Histogram(_NAME + name, description, labels, registry=self._registry, buckets=bounds))


class _LabelledMetric(dict[tuple[object, ...], Any]):
    """The children of a metric by their labels, created on first use.

    prometheus_client's own look-up converts all labels to strings under a lock, which takes longer than the counting.
    """

    def __init__(self, metric: "Counter | Gauge | Histogram") -> None:
        super().__init__()
        self._metric = metric
        self.max_label_sets = MAX_LABEL_SETS

    def __missing__(self, labels: tuple[object, ...]) -> Any:
        if not labels:
            return self._metric
        if len(self) >= self.max_label_sets:
            return self._metric.labels(*[OTHER] * len(labels))
        child = self[labels] = self._metric.labels(*labels)
        return child


class _Collector:
    """Collects the metrics of a process, or of all workers that share a folder.

    Args:
        registry: The metrics of this process.
        folder: The workers' folder; None for a single process.
    """

    def __init__(self, registry: "CollectorRegistry", folder: Path | None) -> None:
        self._registry, self._folder = registry, folder

    def collect(self) -> "Iterator[Metric]":
        """Yield the metrics, without creation times and unloaded models.

        Neither of them can be removed from a shared folder.
        """
        for metric in self._registry.collect() if self._folder is None else _collect_workers(self._folder):
            metric.samples = [
                sample
                for sample in metric.samples
                if not sample.name.endswith("_created") and (metric.name != _LOADED or sample.value > 0)
            ]
            yield metric


def _collect_workers(folder: Path) -> "list[Metric]":
    """Read the metrics of all workers, without the gauges of workers that have ended."""
    from prometheus_client.multiprocess import MultiProcessCollector

    files = []
    for file in folder.glob("*.db"):
        kind, _, pid = file.stem.rpartition("_")
        if kind.startswith("gauge_live") and not _is_running(int(pid)):
            Metrics.worker_died(int(pid))
            continue
        # The file of a worker that has just started is empty for a moment; prometheus_client can't read it.
        with suppress(FileNotFoundError):
            if file.stat().st_size:
                files.append(str(file))
    found = MultiProcessCollector.merge(sorted(files))  # type: ignore[no-untyped-call]
    return sorted(found, key=lambda metric: str(metric.name))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _shared_folder() -> Path | None:
    """Make prometheus_client keep its values in the workers' folder, if there is one."""
    shared = os.environ.get(SHARED)
    if not shared:
        return None
    folder = Path(shared, "metrics")
    imported = "prometheus_client" in sys.modules
    if imported and os.environ.get(FOLDER_VARIABLE) != str(folder):
        raise RuntimeError(
            f"expected prometheus_client to be imported by the metrics, since workers share {str(folder)!r}, got it "
            f"imported before, with its values in memory; import it later, or set {FOLDER_VARIABLE} to that folder at "
            "the start"
        )
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER_VARIABLE] = str(folder)
    if not imported:
        Metrics.worker_died(os.getpid())  # An earlier worker that had the same process id.
    return folder
