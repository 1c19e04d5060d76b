import builtins
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from glimpse_serve.errors import HTTPError
from glimpse_serve.settings import Settings
from glimpse_serve.telemetry.tracing import Tracing, TracingError, trace_id_of
from tests.support.service import png, running, toy_files
from tests.support.toys import noise

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (GOOD, TRACE),
        (f"00-{TRACE}-{PARENT}-00", TRACE),
        (f"01-{TRACE}-{PARENT}-01-more", TRACE),
        ("", ""),
        (f"00-{TRACE}-{PARENT}-01-more", ""),
        (f"ff-{TRACE}-{PARENT}-01", ""),
        (f"00-{'0' * 32}-{PARENT}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-{PARENT}-01", ""),
        (f"00-{TRACE[1:]}-{PARENT}-01", ""),
        (f" {GOOD}", ""),
    ],
)
def test_the_header_is_read_by_the_standard(header, trace):
    assert trace_id_of(header) == trace


def scope(*headers: tuple[bytes, bytes], path: str = "/v1/classify") -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": path, "scheme": "http", "headers": list(headers)}


def test_without_opentelemetry_the_traces_id_is_known_all_the_same():
    tracing = Tracing(False, "glimpse")
    with tracing.start_span(scope((b"traceparent", GOOD.encode()))) as span:
        assert span.trace_id == TRACE
        span.add_stage("model", 0.0, 0.1)
        span.set_attribute("http.route", "/x")
    assert tracing.start_span(scope()).trace_id == ""
    two = scope((b"traceparent", GOOD.encode()), (b"traceparent", GOOD.encode()))
    assert tracing.start_span(two).trace_id == ""
    tracing.close()


@pytest.fixture
def reported() -> Iterator[tuple[Tracing, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    tracing = Tracing(True, "glimpse", exporter)
    yield tracing, exporter
    tracing.close()


def test_a_request_is_a_span_in_the_clients_trace_with_its_stages_in_it(reported):
    tracing, exporter = reported
    with tracing.start_span(scope((b"traceparent", GOOD.encode()), (b"tracestate", b"a=1"))) as span:
        assert span.trace_id == TRACE
        span.add_stage("queue", 0.2, 0.1)
        span.add_stage("model", 0.0, 0.2)
        span.set_attribute("http.route", "/v1/classify")
        span.set_attribute("http.response.status_code", 200)
    tracing._provider.force_flush()
    queue, model, start_span = exporter.get_finished_spans()
    assert f"{start_span.context.trace_id:032x}" == TRACE
    assert f"{start_span.parent.span_id:016x}" == PARENT
    assert (start_span.name, start_span.kind.name) == ("POST /v1/classify", "SERVER")
    assert start_span.attributes["http.response.status_code"] == 200
    assert {queue.parent.span_id, model.parent.span_id} == {start_span.context.span_id}
    assert model.end_time - model.start_time == pytest.approx(0.2e9, abs=1e3)
    assert queue.end_time <= model.end_time - 0.19e9
    assert start_span.resource.attributes["service.name"] == "glimpse"


def test_what_the_environment_calls_the_service_wins(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "eyes")
    tracing = Tracing(True, "glimpse", InMemorySpanExporter())
    assert tracing._provider.resource.attributes["service.name"] == "eyes"
    tracing.close()


def test_a_trace_that_the_client_does_not_sample_is_not_exported(reported):
    tracing, exporter = reported
    with tracing.start_span(scope((b"traceparent", f"00-{TRACE}-{PARENT}-00".encode()))) as span:
        span.set_attribute("http.route", "/v1/classify")
        span.add_stage("model", 0.0, 0.1)
        assert span.trace_id == TRACE
    tracing._provider.force_flush()
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize(
    ("error", "status", "is_fault"), [(HTTPError(422, "no", "image"), 422, False), (ValueError(), 500, True)]
)
def test_errors_are_recorded_in_the_span(reported, error, status, is_fault):
    tracing, exporter = reported
    with pytest.raises(type(error)), tracing.start_span(scope()):
        raise error
    tracing._provider.force_flush()
    (start_span,) = exporter.get_finished_spans()
    assert start_span.attributes["http.response.status_code"] == status
    assert (start_span.status.status_code.name == "ERROR") is is_fault


def test_missing_opentelemetry_is_an_error(monkeypatch):
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name=name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TracingError, match=r"pip install 'glimpse-attention\[otel\]'"):
        Tracing(True, "glimpse")


def test_spans_are_exported_to_a_collector(tmp_path, monkeypatch):
    bodies: list[bytes] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    collector = http.server.HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    try:
        with running(Settings(models=toy_files(tmp_path)[:1], tracing=True)) as service:
            assert service.request("POST", "/v1/classify", png(noise(20, 30, 1)), traceparent=GOOD).status == 200
            assert service.request("POST", "/v1/classify", b"none", traceparent=GOOD).status == 422
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()
    spans = [
        span
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope_spans in resource.scope_spans
        for span in scope_spans.spans
    ]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert sorted(span.name for span in spans)[-2:] == ["model", "queue"]
    statuses = {
        attribute.value.int_value
        for span in spans
        for attribute in span.attributes
        if attribute.key == "http.response.status_code"
    }
    assert statuses == {200, 422}
