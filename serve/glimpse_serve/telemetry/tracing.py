"""W3C trace context (https://www.w3.org/TR/trace-context/): trace ids in the logs, and optionally OpenTelemetry spans.

Without OpenTelemetry the trace id is written to the logs only. With it every request is a span with a child span for
each stage; they are exported as the ``OTEL_*`` variables configure it.
"""

import re
import time
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TracingError(ValueError):
    """Tracing is enabled, but OpenTelemetry is missing."""


@runtime_checkable
class Span(Protocol):
    """The span of a request; a context manager.

    Attributes:
        trace_id: 32 hexadecimal digits; empty without a trace.
    """

    trace_id: str

    def add_stage(self, name: str, seconds_ago: float, seconds: float) -> None:
        """Record a completed stage as a child span.

        Args:
            name: Name of the stage.
            seconds_ago: Time since its end.
            seconds: Its duration.
        """

    def set_attribute(self, name: str, value: Any) -> None:
        """Set an attribute of the span.

        Args:
            name: Name of the attribute.
            value: A string or a number.
        """

    def __enter__(self) -> "Span":
        """Enter the span."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span."""


class Untraced:
    """A span that only carries the trace id.

    Args:
        trace_id: 32 hexadecimal digits; empty without a trace.
    """

    __slots__ = ("trace_id",)

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id

    def add_stage(self, name: str, seconds_ago: float, seconds: float) -> None:
        """Do nothing."""

    def set_attribute(self, name: str, value: Any) -> None:
        """Do nothing."""

    def __enter__(self) -> "Untraced":
        """Enter the span."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span."""


class Traced:
    """A span of OpenTelemetry.

    Args:
        tracer: OpenTelemetry's tracer.
        context: Context of the trace that it continues.
        scope: ASGI scope of the request.
    """

    def __init__(self, tracer: Any, context: Any, scope: dict[str, Any]) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        method = scope.get("method", "WEBSOCKET")
        attributes = {"http.request.method": method, "url.path": scope["path"][:200], "url.scheme": scope["scheme"]}
        self._tracer, self._method = tracer, method
        self._span = tracer.start_span(method, context, SpanKind.SERVER, attributes)
        self._inside = set_span_in_context(self._span)
        self.trace_id = f"{self._span.get_span_context().trace_id:032x}"

    def add_stage(self, name: str, seconds_ago: float, seconds: float) -> None:
        """Record a completed stage as a child span; see :meth:`Span.add_stage`."""
        end = time.time_ns() - round(seconds_ago * 1e9)
        self._tracer.start_span(name, self._inside, start_time=end - round(seconds * 1e9)).end(end)

    def set_attribute(self, name: str, value: Any) -> None:
        """Set an attribute; ``http.route`` names the span as well."""
        self._span.set_attribute(name, value)
        if name == "http.route":
            self._span.update_name(f"{self._method} {value}")

    def __enter__(self) -> "Traced":
        """Enter the span."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span."""
        from opentelemetry.trace import StatusCode

        if error is not None:
            status = getattr(error, "status", 500)
            self._span.set_attribute("http.response.status_code", status)
            if status >= 500:
                self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Tracing:
    """Starts the spans of requests.

    Args:
        enabled: Whether spans are exported by OpenTelemetry.
        service: Name of the service in the traces, unless OTEL_SERVICE_NAME is set.
        exporter: OpenTelemetry's exporter; OTLP over HTTP by default.

    Raises:
        TracingError: When it is enabled and OpenTelemetry is not installed.
    """

    def __init__(self, enabled: bool, service: str, exporter: Any = None) -> None:
        self._provider: Any = None
        if not enabled:
            return
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise TracingError(
                f"expected OpenTelemetry for --tracing, and {error.name} is not installed; "
                "pip install 'glimpse-attention[otel]', or leave it out"
            ) from error
        from glimpse import __version__

        # OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME take precedence.
        own = Resource.create({SERVICE_NAME: service, "service.version": __version__})
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()))
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("glimpse_serve", __version__)

    def start_span(self, scope: dict[str, Any]) -> Span:
        """Start the span of a request, in the trace of its ``traceparent`` header.

        Args:
            scope: ASGI scope of the request.
        """
        parents = [value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"]
        # Two traceparent headers, or a malformed one, are ignored.
        parent = parents[0] if len(parents) == 1 else ""
        trace_id = trace_id_of(parent)
        if self._provider is None:
            return Untraced(trace_id)
        states = [value.decode("latin-1") for name, value in scope["headers"] if name == b"tracestate"]
        carrier = {"traceparent": parent, "tracestate": ",".join(states)} if trace_id else {}
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        return Traced(self._tracer, TraceContextTextMapPropagator().extract(carrier), scope)

    def close(self) -> None:
        """Export the remaining spans."""
        if self._provider is not None:
            self._provider.shutdown()


def trace_id_of(traceparent: str) -> str:
    """Parse the trace id of a ``traceparent`` header; empty if it is malformed.

    Args:
        traceparent: The header.
    """
    match = TRACEPARENT.fullmatch(traceparent)
    if not match:
        return ""
    version, trace, parent, _, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or set(trace) == {"0"} or set(parent) == {"0"}:
        return ""
    return trace
