"""The bare session behind FastAPI, without batching.

``python -m benchmarks.serving.fastapi_server FILE --port N [--threads]``.

``benchmarks.serving.cost`` measures our service against it, and against LitServe
(``benchmarks.serving.litserve_server``), which shares what stands here. It is in the form that costs least: the
endpoint is a coroutine that decodes and answers in place, orjson writes the answer, uvicorn runs on uvloop and
httptools. It answers what our service answers. No torch, nothing of ``glimpse_serve``.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks.harness.command_line import command_parser
from glimpse.contract.tensors import INPUT, PROBABILITIES
from glimpse.images import pixels
from glimpse.runtime.prediction import Prediction
from glimpse.runtime.session import GlimpseSession

JSON, BYTES = "application/json", "application/octet-stream"


def fitted(session: GlimpseSession, image: bytes) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """Decode an image and put it onto the model's canvas.

    Args:
        session: The model.
        image: The bytes of a file.

    Returns:
        The canvas, and the image's own (height, width).
    """
    decoded = pixels.decode(image)
    return session.fit(decoded), (decoded.shape[0], decoded.shape[1])


def answers_to(
    session: GlimpseSession, given: Sequence[tuple[npt.NDArray[np.uint8], tuple[int, int]]]
) -> list[dict[str, Any]]:
    """Classify images, and return the content of our service's response for each.

    Args:
        session: The model.
        given: Canvases, each with the (height, width) of its image.
    """
    sizes = [size for _, size in given]
    found = session.onto_images(session.run(np.stack([canvas for canvas, _ in given])), sizes)
    return [response_content(session, found.row(row), size) for row, size in enumerate(sizes)]


def response_content(session: GlimpseSession, found: Prediction, size: tuple[int, int]) -> dict[str, Any]:
    """The content of a response for one image, in JSON's values and numpy's.

    Args:
        session: The model.
        found: Of a batch of one.
        size: The image's own (height, width).
    """
    classes, beliefs = session.card.classes, found.probabilities[0]
    labels, best = beliefs.argmax(1).tolist(), beliefs.max(1)
    glimpses = []
    for time, label in enumerate(labels):
        glimpse = {"time": time, "class": classes[label], "confidence": best[time]}
        if found.boxes is not None or found.maps is not None:
            glimpse["location"] = found.locations[0, time]
        if found.boxes is not None:
            glimpse["boxes"] = found.boxes[0, time]
        glimpses.append(glimpse)
    return {
        "model": {"name": session.path.stem, "version": "1"},
        "class": classes[labels[-1]],
        "confidence": best[-1],
        "probabilities": dict(zip(classes, beliefs[-1], strict=True)),
        "width": size[1],
        "height": size[0],
        "reason": found.reasons[0],
        "glimpses": glimpses,
    }


def canvases_in(session: GlimpseSession, body: bytes) -> npt.NDArray[np.uint8]:
    """Images as a graph takes them, out of their bytes.

    Args:
        session: The model.
        body: uint8 (batch, channels, height, width) of the model's canvas, row by row.
    """
    card = session.card
    return np.frombuffer(body, np.uint8).reshape(-1, card.channels, card.height, card.width)


def outputs_of(session: GlimpseSession) -> list[str]:
    """The outputs of a graph, the probabilities last."""
    return [name for name in session.card.outputs if name != PROBABILITIES] + [PROBABILITIES]


def written(content: Any) -> bytes:
    """JSON's values, and numpy's, as JSON."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def serve(file: str, port: int, threads: bool) -> None:
    """Serve the bare session behind FastAPI until it is stopped.

    Args:
        file: The model.
        port: At which to listen.
        threads: Whether endpoints run in FastAPI's thread pool.
    """
    import uvicorn
    from fastapi import Body, FastAPI, Request, Response

    session = GlimpseSession(file)
    names = outputs_of(session)

    def classified(body: bytes) -> Response:
        (answer,) = answers_to(session, [fitted(session, body)])
        return Response(written(answer), media_type=JSON)

    def inferred(body: bytes) -> Response:
        found = session.infer({INPUT: canvases_in(session, body)}, names)
        return Response(b"".join(found[name].tobytes() for name in names), media_type=BYTES)

    def endpoint(answer: Callable[[bytes], Response]) -> Callable[..., Any]:
        async def in_place(request: Request) -> Response:
            return answer(await request.body())

        def in_a_thread(body: Annotated[bytes, Body(media_type=BYTES)]) -> Response:
            return answer(body)

        return in_a_thread if threads else in_place

    application = FastAPI()
    application.get("/ready")(lambda: {"ready": True})
    application.post("/classify")(endpoint(classified))
    application.post("/infer")(endpoint(inferred))
    uvicorn.run(application, port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning")


def main(args: Sequence[str]) -> int:
    """Serve.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.serving.fastapi_server", __doc__)
    parser.add_argument("file", metavar="FILE", help="the model, an ONNX file written by 'glimpse export'")
    parser.add_argument("--port", type=int, required=True, metavar="N", help="where to listen")
    parser.add_argument("--threads", action="store_true", help="answer in the thread pool")
    options = parser.parse_args(args)
    serve(options.file, options.port, options.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
