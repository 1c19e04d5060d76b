"""What the service counts and measures, for Prometheus.

With several workers the values lie in files that the workers share (prometheus_client's multiprocess mode, which the
environment variable PROMETHEUS_MULTIPROC_DIR turns on before this module is imported), and every worker tells the sums.
"""

import os
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

import glimpse

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histograms."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
GLIMPSES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"))
"""Others, which clients may make up, are counted as one."""


class Metrics:
    """All that is counted in one process. Labels hold nothing that clients can make up."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._children: dict[tuple[Any, ...], Any] = {}
        self._requests = self._counter("requests", "Requests that were answered.", "route", "method", "status")
        self._refusals = self._counter("refusals", "Requests that were refused, by kind.", "kind")
        self._seconds = self._histogram("request_seconds", "From a request's headers to its answer.", SECONDS, "route")
        self._stages = self._histogram("stage_seconds", "Stages of an answer.", SECONDS, "model", "stage")
        self._batches = self._histogram("batch_images", "Images that were looked at together.", SIZES, "model")
        self._glimpses = self._histogram("glimpses", "Glimpses that were taken of an image.", GLIMPSES, "model")
        self._reasons = self._counter("stops", "Why the model stopped looking.", "model", "reason")
        self._classes = self._counter("answers", "Images by the class that was answered.", "model", "class")
        self._running = self._gauge("requests_running", "Requests that are being answered.", "livesum")
        self._waiting = self._gauge("queue_waiting", "Requests that wait for a model.", "livesum", "model")
        self._models = self._gauge(
            "model_loaded", "1 for a model that is served.", "livemax", "model", "version", "sha256"
        )
        self._loads = self._counter("model_loads_refused", "Files of models that were refused.")
        self._connections = self._counter("connections_refused", "Connections that were closed, by kind.", "kind")
        self._gauge("build_info", "1, with the version.", "livemax", "version").labels(glimpse.__version__).set(1)
        self._sha256: dict[tuple[str, int], str] = {}

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
            status: HTTP's.
            seconds: How long it took.
        """
        method = method if method in METHODS else "other"
        self._child(self._requests, route, method, status).inc()
        self._child(self._seconds, route).observe(seconds)

    def refused(self, kind: str) -> None:
        """A request was refused.

        Args:
            kind: A refusal's.
        """
        self._child(self._refusals, kind).inc()

    def stage(self, model: str, stage: str, seconds: float) -> None:
        """A stage of an answer is over.

        Args:
            model: Its name.
            stage: ``read``, ``decode``, ``queue`` or ``model``.
            seconds: How long it took.
        """
        self._child(self._stages, model, stage).observe(seconds)

    def batch(self, model: str, size: int) -> None:
        """Images are looked at together.

        Args:
            model: Its name.
            size: How many.
        """
        self._child(self._batches, model).observe(size)

    def queued(self, model: str, waiting: int) -> None:
        """So many requests wait.

        Args:
            model: For which.
            waiting: How many.
        """
        self._child(self._waiting, model).set(waiting)

    def looked(self, model: str, glimpses: int, reason: str, label: str) -> None:
        """An image was classified.

        Args:
            model: Its name.
            glimpses: That it took.
            reason: Why it stopped.
            label: The class.
        """
        self._child(self._glimpses, model).observe(glimpses)
        self._child(self._reasons, model, reason).inc()
        self._child(self._classes, model, label).inc()

    def loaded(self, name: str, version: int, sha256: str) -> None:
        """A model took over.

        Args:
            name: Its name.
            version: Its version.
            sha256: Its file's seal.
        """
        self.unloaded(name, version)
        self._sha256[name, version] = sha256[:12]
        self._models.labels(name, version, sha256[:12]).set(1)

    def unloaded(self, name: str, version: int) -> None:
        """A model was taken out.

        Args:
            name: Its name.
            version: Its version.
        """
        if (name, version) in self._sha256:
            self._models.labels(name, version, self._sha256.pop((name, version))).set(0)

    def load_refused(self, name: str) -> None:
        """A model's file was refused.

        Args:
            name: Of the model; not counted apart, since anybody may put files under any name.
        """
        self._loads.inc()

    def connection_refused(self, kind: str) -> None:
        """A connection was closed before a request came of it.

        Args:
            kind: Why, in a word.
        """
        self._child(self._connections, kind).inc()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Write everything down.

        Args:
            accept: The ``Accept`` header of who asks: Prometheus' text, or OpenMetrics.

        Returns:
            The text, and its media type.
        """
        encode, media_type = choose_encoder(accept)
        registry = self._registry
        folder = os.environ.get(FOLDER)
        if folder:
            forget_the_dead(Path(folder))
            registry = CollectorRegistry()
            MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        text: bytes = encode(registry)
        return text, media_type

    def _child(self, metric: Any, *labels: Any) -> Any:
        """A metric's child, which prometheus_client would look up under a lock and with all labels turned into texts."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(f"glimpse_{name}", told, labels, registry=self._registry)

    def _gauge(self, name: str, told: str, mode: Any, *labels: str) -> Gauge:
        return Gauge(f"glimpse_{name}", told, labels, registry=self._registry, multiprocess_mode=mode)

    def _histogram(self, name: str, told: str, bounds: tuple[float | int, ...], *labels: str) -> Histogram:
        return Histogram(f"glimpse_{name}", told, labels, registry=self._registry, buckets=bounds)


def forget_the_dead(folder: Path) -> None:
    """Remove what workers that are gone said of their present; what they counted stays.

    Args:
        folder: In which the workers' files lie.
    """
    for file in folder.glob("gauge_live*_*.db"):
        worker = file.stem.rpartition("_")[2]
        if worker.isdecimal() and not Path("/proc", worker).exists() and not _alive(int(worker)):
            file.unlink(missing_ok=True)


def _alive(worker: int) -> bool:
    try:
        os.kill(worker, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
