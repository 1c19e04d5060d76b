"""The Open Inference Protocol v2 over REST, as KServe and Triton speak it.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import glimpse
from glimpse_serve.errors import HTTPError
from glimpse_serve.http.compression import pack
from glimpse_serve.http.request import Handler, Request, Response, json_response
from glimpse_serve.models.registry import LoadedModel
from glimpse_serve.routes import v2_tensors
from glimpse_serve.routes.context import AppContext

SLOW_BYTES = 2**16
"""Bodies from this size on are read and written in a thread, so that others need not wait."""
PLATFORM = "onnxruntime_onnx"
"""What Triton calls models of our kind."""


class V2Routes:
    """The handlers of the protocol.

    Args:
        house: What they share.
    """

    def __init__(self, house: AppContext) -> None:
        self._house = house
        # Numbers in JSON take many times their letters' memory while they are read, so it is done one by one.
        self._reading = asyncio.Lock()

    def routes(self) -> dict[str, Mapping[str, Handler]]:
        """Handlers by the templates of their paths, those that are asked for most first."""
        found: dict[str, Mapping[str, Handler]] = {}
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            found[f"{model}/infer"] = {"POST": self.infer}
            found[f"{model}/ready"] = {"GET": self.model_ready}
            found[model] = {"GET": self.metadata}
        found["/v2/health/live"] = {"GET": self.live}
        found["/v2/health/ready"] = {"GET": self.ready}
        found["/v2/repository/index"] = {"POST": self.index}
        found["/v2"] = {"GET": self.server}
        return found

    async def server(self, asked: Request) -> Response:
        """Tell what the server is."""
        asked.query()
        return json_response({"name": "glimpse", "version": glimpse.__version__, "extensions": ["binary_tensor_data"]})

    async def live(self, asked: Request) -> Response:
        """Tell that the server lives."""
        return json_response({"live": True})

    async def ready(self, asked: Request) -> Response:
        """Tell whether the server takes requests; 503 if it doesn't."""
        condition = self._house.condition
        if not condition.ready:
            why = "it is being stopped" if condition.draining else "its models are being loaded"
            raise HTTPError(
                503, f"expected a server that is ready, {why}; ask another one", "shutdown", {"Retry-After": "1"}
            )
        return json_response({"ready": True})

    async def model_ready(self, asked: Request) -> Response:
        """Tell whether a model takes requests."""
        entry = self._find(asked)
        return json_response({"name": entry.model.name, "ready": True})

    async def metadata(self, asked: Request) -> Response:
        """Tell a model's inputs and outputs."""
        asked.query()
        entry = self._find(asked)
        card = entry.model.card
        return json_response(
            {
                "name": entry.model.name,
                "versions": [str(version) for version in self._house.registry.versions(entry.model.name)],
                "platform": PLATFORM,
                "inputs": _described(v2_tensors.wire_inputs(card)),
                "outputs": _described(v2_tensors.wire_outputs(card)),
            }
        )

    async def index(self, asked: Request) -> Response:
        """List the models, as Triton's extension of the model repository does."""
        async with self._house.intake.body(asked.headers, asked.receive) as body:
            v2_tensors.check_index_request(body)
            return json_response(
                [
                    {"name": entry.model.name, "version": str(entry.model.version), "state": "READY", "reason": ""}
                    for entry in self._house.registry
                ]
            )

    async def infer(self, asked: Request) -> Response:
        """Run a model's graph on the tensors of a request."""
        asked.query()
        entry = self._find(asked)
        model, settings = entry.model, self._house.settings
        async with self._house.intake.body(asked.headers, asked.receive) as body:
            asked.bytes_in = len(body)
            length = asked.headers.get(v2_tensors.HEADER_LENGTH)
            limits = (settings.max_images, settings.max_pixels)
            if len(body) < SLOW_BYTES:
                request = v2_tensors.read(body, length, model.card, *limits)
            else:
                async with self._reading:
                    request = await asyncio.to_thread(v2_tensors.read, body, length, model.card, *limits)
            found = await self._house.ask(asked, entry, request.job, request.timeout_seconds)

        def answer() -> Response:
            written, head = v2_tensors.write(request, found.outputs, model.card, model.name, model.version)
            if head is None:
                return pack(Response(written), asked.headers.get("accept-encoding", ""))
            headers = {v2_tensors.HEADER_LENGTH.title(): str(head)}
            return pack(
                Response(written, 200, "application/octet-stream", headers), asked.headers.get("accept-encoding", "")
            )

        size = sum(found.outputs[name].nbytes for name in request.job.outputs)
        return answer() if size < SLOW_BYTES // 8 else await asyncio.to_thread(answer)

    def _find(self, asked: Request) -> LoadedModel:
        entry = self._house.registry.find(asked.path["model"], asked.path.get("version"))
        asked.model = entry.model.name
        return entry


def _described(specs: Mapping[str, v2_tensors.Spec]) -> list[dict[str, Any]]:
    return [{"name": name, "datatype": spec.datatype, "shape": spec.shape} for name, spec in specs.items()]
