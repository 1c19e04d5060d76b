"""W3C trace context: whose request this is a part of, told in the logs, and as spans by OpenTelemetry if it is wanted.

https://www.w3.org/TR/trace-context/. Without OpenTelemetry the trace's id only comes into the logs. With it every
request is a span, with a span for each stage in it, which are exported as the ``OTEL_*`` variables say.
"""

import re
import time
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TracingError(ValueError):
    """Tracing was asked for, and can't be done."""


@runtime_checkable
class Span(Protocol):
    """A request on its way.

    Attributes:
        trace_id: 32 hexadecimal digits; empty where there is no trace.
    """

    trace_id: str

    def child(self, name: str, seconds_ago: float, seconds: float) -> None:
        """Tell of a stage that is over.

        Args:
            name: Its name.
            seconds_ago: When it ended.
            seconds: How long it took.
        """

    def note(self, name: str, value: Any) -> None:
        """Tell something of the request.

        Args:
            name: What.
            value: A text or a number.
        """

    def __enter__(self) -> "Span":
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""


class Untraced:
    """A span that nobody is told of.

    Args:
        trace_id: See :class:`Span`.
    """

    __slots__ = ("trace_id",)

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id

    def child(self, name: str, seconds_ago: float, seconds: float) -> None:
        """See :class:`Span`."""

    def note(self, name: str, value: Any) -> None:
        """See :class:`Span`."""

    def __enter__(self) -> "Untraced":
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""


class Traced:
    """A span of OpenTelemetry.

    Args:
        tracer: Which makes spans.
        context: Of the trace that it continues.
        scope: ASGI's, of the request.
    """

    def __init__(self, tracer: Any, context: Any, scope: dict[str, Any]) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        method = scope.get("method", "WEBSOCKET")
        attributes = {"http.request.method": method, "url.path": scope["path"][:200], "url.scheme": scope["scheme"]}
        self._tracer, self._method = tracer, method
        self._span = tracer.start_span(method, context, SpanKind.SERVER, attributes)
        self._inside = set_span_in_context(self._span)
        self.trace_id = f"{self._span.get_span_context().trace_id:032x}"

    def child(self, name: str, seconds_ago: float, seconds: float) -> None:
        """See :class:`Span`."""
        end = time.time_ns() - round(seconds_ago * 1e9)
        self._tracer.start_span(name, self._inside, start_time=end - round(seconds * 1e9)).end(end)

    def note(self, name: str, value: Any) -> None:
        """See :class:`Span`."""
        self._span.set_attribute(name, value)
        if name == "http.route":
            self._span.update_name(f"{self._method} {value}")

    def __enter__(self) -> "Traced":
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""
        from opentelemetry.trace import StatusCode

        if error is not None:
            status = getattr(error, "status", 500)
            self._span.set_attribute("http.response.status_code", status)
            if status >= 500:
                self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Tracing:
    """Makes the spans of requests.

    Args:
        enabled: Whether OpenTelemetry is told of them.
        service: What it calls the service, unless OTEL_SERVICE_NAME says otherwise.
        exporter: To which they go; that of OTLP over HTTP by default.

    Raises:
        TracingError: When it is wanted and not installed.
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

        # What OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say wins.
        own = Resource.create({SERVICE_NAME: service, "service.version": __version__})
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()))
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("glimpse_serve", __version__)

    def request(self, scope: dict[str, Any]) -> Span:
        """Make the span of a request; it goes on in the trace that the request says it is a part of.

        Args:
            scope: ASGI's.
        """
        parents = [value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"]
        # Of two nobody knows which is right; one that is none counts as if it were not there.
        parent = parents[0] if len(parents) == 1 else ""
        trace_id = trace_id_of(parent)
        if self._provider is None:
            return Untraced(trace_id)
        states = [value.decode("latin-1") for name, value in scope["headers"] if name == b"tracestate"]
        given = {"traceparent": parent, "tracestate": ",".join(states)} if trace_id else {}
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        return Traced(self._tracer, TraceContextTextMapPropagator().extract(given), scope)

    def close(self) -> None:
        """Send what was not sent yet."""
        if self._provider is not None:
            self._provider.shutdown()


def trace_id_of(traceparent: str) -> str:
    """Read the trace's id out of a ``traceparent`` header; empty where it is none by the standard.

    Args:
        traceparent: The header.
    """
    found = TRACEPARENT.fullmatch(traceparent)
    if not found:
        return ""
    version, trace, parent, _, more = found.groups()
    if version == "ff" or (version == "00" and more) or set(trace) == {"0"} or set(parent) == {"0"}:
        return ""
    return trace
