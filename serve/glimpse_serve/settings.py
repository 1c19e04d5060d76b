"""What the service can be told, by flags or by the environment, and what holds when nothing is said.

Every field is an option of ``glimpse serve`` (``max_queue`` is ``--max-queue``) and an environment variable
(``GLIMPSE_SERVE_MAX_QUEUE``); a flag wins over the environment. Standard library only.
"""

import json
import signal
from dataclasses import asdict, dataclass, fields
from typing import Any

SHARED = "GLIMPSE_SERVE_SHARED"
"""The environment variable that names the folder which worker processes share."""
DRAIN = signal.SIGUSR1
"""Tells a process that the service is about to stop."""


@dataclass(frozen=True)
class Settings:
    """How the service runs.

    Attributes:
        models: ONNX files to serve, each ``FILE`` or ``NAME=FILE``; those that are shipped with the package where
            neither these nor a directory is given.
        directory: A directory of models that is watched, ``NAME.onnx`` or ``NAME/VERSION/model.onnx``; empty for none.
        watch_seconds: How often it is looked at.
        provider: What the models run on, one of :data:`glimpse.runtime.providers.PROVIDERS`.
        threads: Threads within an operator.
        host: Address to listen at.
        port: Port to listen at; 0 for a free one.
        workers: Processes that share the port; on Ray, replicas of the models.
        max_workers: On Ray, replicas up to which it adds some when there is more to do; 0 for none.
        ray: Whether to run on Ray Serve.
        max_batch: Images that are looked at together, at most.
        max_queue: Requests that may wait for a model; more are answered 503 at once.
        deadline_seconds: How long a request may take from its last byte to its answer.
        max_bytes: Largest body that is read, bytes.
        max_pixels: Largest image that is decoded, pixels.
        max_images: Images in one request, at most.
        header_seconds: How long a client may take to send a request's headers.
        body_seconds: How long it may take to send a request's body.
        decode_seconds: How long the decoding of an image may take.
        max_connections: Connections at once; one more is answered 503 and closed.
        max_looks: Streaming sessions at once.
        look_seconds: How long a streaming session may take, and wait for pixels.
        drain_seconds: How long the service goes on after it was told to stop, saying that it is not ready.
        shutdown_seconds: How long it then waits for requests that it has begun.
        keys_file: File of API keys; empty for none.
        keys: Entries of such a file, ended by commas; for the environment.
        allow_anonymous: Whether to listen at other addresses than the loopback without API keys.
        rate: Requests a second for each key, or each address where there are no keys; 0 for no limit.
        burst: Requests that may come at once within the rate.
        open_metrics: Whether ``/metrics`` answers without a key.
        cors: Origins whose pages may call the service; none if empty.
        tls_certificate: PEM file of the certificate chain; empty for plain HTTP.
        tls_key: PEM file of its private key.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        log_format: ``json``, or ``text`` for people.
        tracing: Whether spans are sent by OpenTelemetry, as its ``OTEL_*`` variables say.
    """

    models: tuple[str, ...] = ()
    directory: str = ""
    watch_seconds: float = 1.0
    provider: str = "cpu"
    threads: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    max_workers: int = 0
    ray: bool = False
    max_batch: int = 32
    max_queue: int = 256
    deadline_seconds: float = 10.0
    max_bytes: int = 16 * 2**20
    max_pixels: int = 2**24
    max_images: int = 64
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    decode_seconds: float = 5.0
    max_connections: int = 2048
    max_looks: int = 32
    look_seconds: float = 60.0
    drain_seconds: float = 0.0
    shutdown_seconds: float = 20.0
    keys_file: str = ""
    keys: str = ""
    allow_anonymous: bool = False
    rate: float = 0.0
    burst: int = 20
    open_metrics: bool = False
    cors: tuple[str, ...] = ()
    tls_certificate: str = ""
    tls_key: str = ""
    log_level: str = "info"
    log_format: str = "json"
    tracing: bool = False

    def to_json(self) -> str:
        """Write the settings as JSON, for the workers."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """Read what :meth:`to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        listed = {field.name for field in fields(cls) if isinstance(field.default, tuple)}
        listed_as = {name: tuple(values[name]) for name in listed & values.keys()}
        return cls(**(values | listed_as))
