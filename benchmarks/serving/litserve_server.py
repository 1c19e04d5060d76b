"""LitServe with an exported model: ``python -m benchmarks.serving.litserve_server FILE --port N [--batches]``.

``benchmarks.serving.cost`` measures our service against it. One worker, one API server, ZeroMQ for its queues, which
its documentation advises from 100 requests a second on; raw bytes in, and an answer that is written by orjson and not
by FastAPI. It needs litserve, onnxruntime, orjson, and of Glimpse what runs an exported model.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import litserve
from fastapi import Body, Response

from benchmarks.harness.command_line import command_parser
from benchmarks.serving.fastapi_server import BYTES, JSON, answers_to, canvases_in, fitted, written
from glimpse.runtime.session import GlimpseSession

BATCH, PATIENCE_SECONDS = 32, 0.01
"""A batch has at most as many images as in our service. The wait is the shortest of LitServe's examples; with 0 its
worker would never sleep."""
PNG = b"\x89PNG"


class Single(litserve.LitAPI):  # type: ignore[misc]
    """The session as LitServe wants it.

    Args:
        file: The model.
        options: Of LitServe.
    """

    def __init__(self, file: str, **options: Any) -> None:
        super().__init__(**options)
        self._file = file

    def setup(self, device: str) -> None:
        """Load the model."""
        self._session = GlimpseSession(self._file)

    def decode_request(self, request: Annotated[bytes, Body(media_type=BYTES)]) -> Any:
        """Decode an image or a tensor, which are told apart by their first bytes."""
        if request.startswith(PNG):
            return fitted(self._session, request)
        canvas = canvases_in(self._session, request)[0].transpose(1, 2, 0)
        return canvas, canvas.shape[:2]

    def predict(self, given: Any) -> Any:
        """Answer one."""
        return answers_to(self._session, [given])[0]

    def encode_response(self, output: Any) -> Response:
        """Write the answer."""
        return Response(written(output), media_type=JSON)


class Batches(Single):
    """The same in batches."""

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Return them unchanged."""
        return inputs

    def predict(self, given: Any) -> Any:
        """Answer a batch."""
        return answers_to(self._session, given)

    def unbatch(self, output: Any) -> Any:
        """Return them unchanged."""
        return output


def main(args: Sequence[str]) -> int:
    """Serve until stopped.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.serving.litserve_server", __doc__)
    parser.add_argument("file", metavar="FILE", help="the model, an ONNX file written by 'glimpse export'")
    parser.add_argument("--port", type=int, required=True, metavar="N", help="where to listen")
    parser.add_argument("--batches", action="store_true", help="answer in batches")
    options = parser.parse_args(args)
    api = (
        Batches(options.file, max_batch_size=BATCH, batch_timeout=PATIENCE_SECONDS)
        if options.batches
        else Single(options.file)
    )
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, fast_queue=True)
    server.run(
        "127.0.0.1",
        options.port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
        loop="uvloop",
        http="httptools",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
