"""The Open Inference Protocol v2 over REST, as KServe and Triton speak it.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import glimpse
from glimpse_serve.errors import HTTPError
from glimpse_serve.http.compression import compress
from glimpse_serve.http.request import Request, RequestHandler, Response, json_response
from glimpse_serve.http.tensor_format import HEADER_LENGTH
from glimpse_serve.models.registry import LoadedModel
from glimpse_serve.routes import v2_tensors
from glimpse_serve.routes.context import AppContext

SLOW_BYTES = 2**16
"""Bodies from this size on are parsed and written in a thread, so that the event loop is not blocked."""
PLATFORM = "onnxruntime_onnx"
"""Triton's name for ONNX models that run in onnxruntime."""


class V2Routes:
    """The handlers of the protocol.

    Args:
        context: The shared components.
    """

    def __init__(self, context: AppContext) -> None:
        self._context = context
        # Parsing numbers in JSON takes many times the memory of the text, so large bodies are parsed one at a time.
        self._reading = asyncio.Lock()

    def routes(self) -> dict[str, Mapping[str, RequestHandler]]:
        """Handlers by path template, the most used first."""
        found: dict[str, Mapping[str, RequestHandler]] = {}
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            found[f"{model}/infer"] = {"POST": self.infer}
            found[f"{model}/ready"] = {"GET": self.model_ready}
            found[model] = {"GET": self.metadata}
        found["/v2/health/live"] = {"GET": self.live}
        found["/v2/health/ready"] = {"GET": self.ready}
        found["/v2/repository/index"] = {"POST": self.index}
        found["/v2"] = {"GET": self.server}
        return found

    async def server(self, request: Request) -> Response:
        """Return the server's name, version and extensions."""
        request.query()
        return json_response({"name": "glimpse", "version": glimpse.__version__, "extensions": ["binary_tensor_data"]})

    async def live(self, request: Request) -> Response:
        """Report that the server runs."""
        return json_response({"live": True})

    async def ready(self, request: Request) -> Response:
        """Report whether the server takes requests; 503 if not."""
        readiness = self._context.readiness
        if not readiness.ready:
            reason = "it is being stopped" if readiness.draining else "its models are being loaded"
            raise HTTPError(
                503, f"expected a server that is ready, {reason}; use another one", "shutdown", {"Retry-After": "1"}
            )
        return json_response({"ready": True})

    async def model_ready(self, request: Request) -> Response:
        """Report whether a model takes requests."""
        loaded = self._find(request)
        return json_response({"name": loaded.model.name, "ready": True})

    async def metadata(self, request: Request) -> Response:
        """Describe a model's inputs and outputs."""
        request.query()
        loaded = self._find(request)
        card = loaded.model.card
        return json_response(
            {
                "name": loaded.model.name,
                "versions": [str(version) for version in self._context.registry.versions(loaded.model.name)],
                "platform": PLATFORM,
                "inputs": _tensor_specs(v2_tensors.wire_inputs(card)),
                "outputs": _tensor_specs(v2_tensors.wire_outputs(card)),
            }
        )

    async def index(self, request: Request) -> Response:
        """List the models, by Triton's model repository extension."""
        async with self._context.bodies.read(request.headers, request.receive) as body:
            v2_tensors.check_index_request(body)
            return json_response(
                [
                    {"name": loaded.model.name, "version": str(loaded.model.version), "state": "READY", "reason": ""}
                    for loaded in self._context.registry
                ]
            )

    async def infer(self, request: Request) -> Response:
        """Run a model's graph on the tensors of a request."""
        request.query()
        loaded = self._find(request)
        model, settings = loaded.model, self._context.settings
        async with self._context.bodies.read(request.headers, request.receive) as body:
            request.bytes_in = len(body)
            length = request.headers.get(HEADER_LENGTH.lower())
            limits = (settings.max_images, settings.max_pixels)
            if len(body) < SLOW_BYTES:
                inference = v2_tensors.read_request(body, length, model.card, *limits)
            else:
                async with self._reading:
                    inference = await asyncio.to_thread(v2_tensors.read_request, body, length, model.card, *limits)
            result = await self._context.submit(request, loaded, inference.job, inference.timeout_seconds)

        def respond() -> Response:
            written, head = v2_tensors.write_response(inference, result.outputs, model.card, model.name, model.version)
            if head is None:
                return compress(Response(written), request.headers.get("accept-encoding", ""))
            headers = {HEADER_LENGTH: str(head)}
            return compress(
                Response(written, 200, "application/octet-stream", headers), request.headers.get("accept-encoding", "")
            )

        size = sum(result.outputs[name].nbytes for name in inference.job.outputs)
        return respond() if size < SLOW_BYTES // 8 else await asyncio.to_thread(respond)

    def _find(self, request: Request) -> LoadedModel:
        loaded = self._context.registry.find(request.path["model"], request.path.get("version"))
        request.model = loaded.model.name
        return loaded


def _tensor_specs(specs: Mapping[str, v2_tensors.Spec]) -> list[dict[str, Any]]:
    return [{"name": name, "datatype": spec.datatype, "shape": spec.shape} for name, spec in specs.items()]
