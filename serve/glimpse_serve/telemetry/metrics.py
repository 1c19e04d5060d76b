"""What the service counts and measures, for Prometheus.

One process keeps its values in memory. Where workers share a folder (:data:`SHARED` names it), their values lie in
files in it, by prometheus_client's multiprocess mode, and any worker tells the sums of all. That library takes its mode
from the environment as it is imported, so it is imported when metrics are made and not before. In that mode a process
has one :class:`Metrics`.

Labels hold nothing that clients can make up: a method or a model that is not known is counted as ``other``, and so is
everything beyond a bound on the combinations of a metric's labels.
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

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus_client looks for its folder."""
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histograms."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
GLIMPSES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"))
OTHER = "other"
MOST = 1000
"""Combinations of labels that a metric may have."""
MOST_CLASSES = 20_000
"""The same, of models' classes."""
_NAME = "glimpse_"
_LOADED = f"{_NAME}model_loaded"


class Metrics:
    """All that is counted in one process.

    Raises:
        RuntimeError: When workers share a folder, and something imported prometheus_client without it.
    """

    def __init__(self) -> None:
        folder = _shared_folder()
        from prometheus_client import CollectorRegistry

        self._registry = CollectorRegistry()
        self._told: Collector = _Told(self._registry, folder)
        self._models: set[str] = set()
        self._sha256: dict[tuple[str, int], str] = {}

        self._requests = self._counter("requests", "Requests that were answered.", "route", "method", "status")
        self._seconds = self._histogram("request_seconds", "From a request's arrival to its end.", SECONDS, "route")
        self._refusals = self._counter("refusals", "Requests that were refused, by kind.", "kind")
        self._running = self._gauge("requests_running", "Requests that are being answered.")[()]
        self._stages = self._histogram("stage_seconds", "Stages of an answer.", SECONDS, "model", "stage")
        self._batches = self._histogram("batch_images", "Images that were looked at together.", SIZES, "model")
        self._waiting = self._gauge("queue_waiting", "Requests that wait for a model.", "model")
        self._glimpses = self._histogram("glimpses", "Glimpses that were taken of an image.", GLIMPSES, "model")
        self._reasons = self._counter("stops", "Why the model stopped looking.", "model", "reason")
        self._classes = self._counter("answers", "Images by the class that was answered.", "model", "class")
        self._classes.most = MOST_CLASSES
        self._loaded = self._gauge("model_loaded", "Processes that serve a model.", "model", "version", "sha256")
        self._loaded.most = sys.maxsize  # Whoever runs the service puts models there, over months many versions.
        self._loads = self._counter("model_loads_refused", "Files of models that were refused.", "model")
        self._connections = self._counter("connections_refused", "Connections that were closed, by kind.", "kind")
        build = self._gauge("build_info", "1, with the versions.", "version", "python", mode="livemax")
        build[glimpse.__version__, platform.python_version()].set(1)

    def began(self) -> None:
        """A request came."""
        self._running.inc()

    def ended(self) -> None:
        """A request is over."""
        self._running.dec()

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered.

        Args:
            route: The template of its path.
            method: HTTP's.
            status: HTTP's; 0 for none.
            seconds: How long it took.
        """
        shown = status if 100 <= status <= 599 else OTHER
        self._requests[route, method if method in METHODS else OTHER, shown].inc()
        self._seconds[route,].observe(seconds)

    def refused(self, kind: str) -> None:
        """A request was refused.

        Args:
            kind: A refusal's.
        """
        self._refusals[kind,].inc()

    def stage(self, model: str, stage: str, seconds: float) -> None:
        """A stage of an answer is over.

        Args:
            model: Its name.
            stage: ``read``, ``decode``, ``queue``, ``model`` or ``answer``.
            seconds: How long it took.
        """
        self._stages[self._known(model), stage].observe(seconds)

    def batch(self, model: str, size: int) -> None:
        """Images are looked at together.

        Args:
            model: Its name.
            size: How many.
        """
        self._batches[self._known(model),].observe(size)

    def queued(self, model: str, waiting: int) -> None:
        """So many requests wait.

        Args:
            model: For which.
            waiting: How many.
        """
        self._waiting[self._known(model),].set(waiting)

    def looked(self, model: str, glimpses: int, reason: str, label: str) -> None:
        """An image was classified.

        Args:
            model: Its name.
            glimpses: That it took.
            reason: Why it stopped.
            label: The class.
        """
        model = self._known(model)
        self._glimpses[model,].observe(glimpses)
        self._reasons[model, reason].inc()
        self._classes[model, label].inc()

    def loaded(self, name: str, version: int, sha256: str) -> None:
        """A model took over; from now on it is counted under its name.

        Args:
            name: Its name.
            version: Its version.
            sha256: Its file's seal, of which the first 12 digits are told.
        """
        self.unloaded(name, version)
        self._models.add(name)
        self._sha256[name, version] = sha256[:12]
        self._loaded[name, version, sha256[:12]].set(1)

    def unloaded(self, name: str, version: int) -> None:
        """A model was taken out.

        Args:
            name: Its name.
            version: Its version.
        """
        sha256 = self._sha256.pop((name, version), None)
        if sha256 is not None:
            self._loaded[name, version, sha256].set(0)

    def load_refused(self, name: str) -> None:
        """A model's file was refused.

        Args:
            name: Of the model.
        """
        self._loads[self._known(name),].inc()

    def connection_refused(self, kind: str) -> None:
        """A connection was closed before a request came of it.

        Args:
            kind: Why, in a word.
        """
        self._connections[kind,].inc()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Write everything down. With many workers this takes milliseconds: do it off the event loop.

        Args:
            accept: The ``Accept`` header of who asks. prometheus_client's own reading of it fails at versions that
                are none, so it is read for the one thing that matters here.

        Returns:
            OpenMetrics 1.0 for those who know it, else Prometheus' text, and its media type.
        """
        from prometheus_client import exposition
        from prometheus_client.openmetrics import exposition as openmetrics

        if "application/openmetrics-text" in accept.lower():
            text: bytes = openmetrics.generate_latest(self._told)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return exposition.generate_latest(self._told), exposition.CONTENT_TYPE_PLAIN_0_0_4

    @staticmethod
    def worker_died(pid: int) -> None:
        """Forget what a worker said of its present; what it counted stays. Any process may call this.

        Args:
            pid: Of a process that has ended.
        """
        shared = os.environ.get(SHARED)
        if shared:
            for file in Path(shared, "metrics").glob(f"gauge_live*_{pid}.db"):
                file.unlink(missing_ok=True)

    def _known(self, model: str) -> str:
        return model if model in self._models else OTHER

    def _counter(self, name: str, told: str, *labels: str) -> "_Children":
        from prometheus_client import Counter

        return _Children(Counter(_NAME + name, told, labels, registry=self._registry))

    def _gauge(
        self, name: str, told: str, *labels: str, mode: Literal["livesum", "livemax"] = "livesum"
    ) -> "_Children":
        from prometheus_client import Gauge

        return _Children(Gauge(_NAME + name, told, labels, registry=self._registry, multiprocess_mode=mode))

    def _histogram(self, name: str, told: str, bounds: Sequence[float | int], *labels: str) -> "_Children":
        from prometheus_client import Histogram

        return _Children(Histogram(_NAME + name, told, labels, registry=self._registry, buckets=bounds))


class _Children(dict[tuple[object, ...], Any]):
    """A metric by its labels, each made when it is first asked for.

    prometheus_client's own look-up turns all labels into texts under a lock, which takes longer than to count.
    """

    def __init__(self, metric: "Counter | Gauge | Histogram") -> None:
        super().__init__()
        self._metric = metric
        self.most = MOST

    def __missing__(self, labels: tuple[object, ...]) -> Any:
        if not labels:
            return self._metric
        if len(self) >= self.most:
            return self._metric.labels(*[OTHER] * len(labels))
        child = self[labels] = self._metric.labels(*labels)
        return child


class _Told:
    """What is told of a registry, or of all workers that share a folder.

    Args:
        registry: The values of this process.
        folder: Of the workers; None where there is one process.
    """

    def __init__(self, registry: "CollectorRegistry", folder: Path | None) -> None:
        self._registry, self._folder = registry, folder

    def collect(self) -> "Iterator[Metric]":
        """Yield the metrics, without the times at which they were made and without models that were taken out.

        In a shared folder neither of them can be removed.
        """
        for metric in self._registry.collect() if self._folder is None else _of_all(self._folder):
            metric.samples = [
                sample
                for sample in metric.samples
                if not sample.name.endswith("_created") and (metric.name != _LOADED or sample.value > 0)
            ]
            yield metric


def _of_all(folder: Path) -> "list[Metric]":
    """Read what all workers say, without the present of those that are gone, whether or not anybody told of it."""
    from prometheus_client.multiprocess import MultiProcessCollector

    files = []
    for file in folder.glob("*.db"):
        kind, _, pid = file.stem.rpartition("_")
        if kind.startswith("gauge_live") and not _runs(int(pid)):
            Metrics.worker_died(int(pid))
            continue
        # The file of a worker that just started is empty for a moment, which prometheus_client can't read.
        with suppress(FileNotFoundError):
            if file.stat().st_size:
                files.append(str(file))
    found = MultiProcessCollector.merge(sorted(files))  # type: ignore[no-untyped-call]
    return sorted(found, key=lambda metric: str(metric.name))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _shared_folder() -> Path | None:
    """Have prometheus_client keep its values in the workers' folder, if they have one."""
    shared = os.environ.get(SHARED)
    if not shared:
        return None
    folder = Path(shared, "metrics")
    imported = "prometheus_client" in sys.modules
    if imported and os.environ.get(FOLDER) != str(folder):
        raise RuntimeError(
            f"expected prometheus_client to be imported by the metrics, since workers share {str(folder)!r}, got it "
            f"imported before, with its values in memory; import it later, or set {FOLDER} to that folder at the start"
        )
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER] = str(folder)
    if not imported:
        Metrics.worker_died(os.getpid())  # Another one, whose number this process has inherited.
    return folder
