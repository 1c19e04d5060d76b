"""Version 1 of the interface: classify an image, with confidence and glimpses; list and describe models."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from glimpse.contract.card import ModelCard
from glimpse.contract.texts import visible
from glimpse.errors import ArgumentError
from glimpse.runtime.inputs import check_first_location
from glimpse.runtime.limits import LimitError, check_limits
from glimpse.runtime.payload import image_payload
from glimpse_serve.errors import HTTPError
from glimpse_serve.http.bodies import UploadedImage, is_form, parse_images
from glimpse_serve.http.cancellation import cancel_on_disconnect
from glimpse_serve.http.compression import compress
from glimpse_serve.http.request import Request, RequestHandler, Response, json_response
from glimpse_serve.inference import explanation
from glimpse_serve.inference.decoder import DecodedImage, DecodeRequest
from glimpse_serve.inference.images import MAX_LARGE_IMAGES
from glimpse_serve.inference.jobs import ClassifyJob, ClassifyResult, ExplainJob
from glimpse_serve.models.registry import LoadedModel
from glimpse_serve.routes.context import AppContext

EXPLAIN = ("path", "attention")
CLASSIFY_QUERY = ("model", "version", "confidence", "max_glimpses", "first_location", "explain")
MODEL_QUERY = ("version",)
MAX_AT_ONCE = MAX_LARGE_IMAGES // 2
"""Images of one form that are processed at once, so that a single form never overloads the service."""
LARGE_BYTES = 2**18
MAX_LARGE_AT_ONCE = 2
"""Files of one form of more bytes than that which are processed at once: each may take seconds."""
MAX_DRAWN_PIXELS = 2**22
"""Pixels of an image up to which an explanation is drawn."""


class _Wish(NamedTuple):
    """What the query of a request says of the glimpses, checked."""

    max_glimpses: int | None
    confidence: float | None
    first_location: tuple[float, float] | None


class V1Routes:
    """The handlers under ``/v1``, but for streaming.

    Args:
        context: The shared components.
    """

    def __init__(self, context: AppContext) -> None:
        self._context = context

    def routes(self) -> dict[str, Mapping[str, RequestHandler]]:
        """Handlers by path template."""
        return {
            "/v1/classify": {"POST": self.classify},
            "/v1/models": {"GET": self.models},
            "/v1/models/{model}": {"GET": self.model},
        }

    async def models(self, request: Request) -> Response:
        """List the models."""
        request.query()
        registry = self._context.registry
        summaries = [_summary(registry.find(name), registry.versions(name)) for name in registry.names]
        return json_response({"models": summaries, "refused": _rejected_files(registry.rejected)})

    async def model(self, request: Request) -> Response:
        """Describe a model, with its card."""
        query = request.query(*MODEL_QUERY)
        registry = self._context.registry
        loaded = registry.find(request.path["model"], query.get("version"))
        summary = _summary(loaded, registry.versions(loaded.model.name))
        summary["version"] = str(loaded.model.version)
        return json_response({**summary, "card": asdict(loaded.model.card)})

    async def classify(self, request: Request) -> Response:
        """Classify the image or images of a request."""
        query = request.query(*CLASSIFY_QUERY)
        loaded = self._context.registry.find(query.get("model"), query.get("version"))
        request.model = loaded.model.name
        wish = _Wish(*_limits(loaded, query), _first_location(loaded, query.get("first_location")))
        explain = query.get("explain")
        _check_explain(loaded, explain)
        async with self._context.bodies.read(request.headers, request.receive) as body:
            request.bytes_in = len(body)
            uploads = parse_images(request.headers, body, self._context.settings.max_images)
            if not is_form(request.headers):
                payload = await self._classify_one(request, loaded, uploads[0], wish, explain)
                content = {"model": model_reference(loaded), **payload}
            else:
                content = {
                    "model": model_reference(loaded),
                    "images": await self._classify_many(request, loaded, uploads, wish, explain),
                }
        accepted = request.headers.get("accept-encoding", "")
        if explain is None:
            return compress(json_response(content), accepted)
        # Explanations are large; writing them in a thread does not block the event loop.
        return await asyncio.to_thread(lambda: compress(json_response(content), accepted))

    async def _classify_one(
        self,
        request: Request,
        loaded: LoadedModel,
        upload: UploadedImage,
        wish: _Wish,
        explain: str | None,
    ) -> dict[str, Any]:
        if explain:
            return await self._explain(request, loaded, upload, wish, explain)
        job = ClassifyJob(upload.content, upload.name, *wish)
        result: ClassifyResult = await self._context.submit(request, loaded, job)
        payload = image_payload(result.prediction, loaded.model.card.classes, result.height, result.width)
        payload["milliseconds"] = round(result.model_seconds * 1e3, 3)
        return payload

    async def _classify_many(
        self,
        request: Request,
        loaded: LoadedModel,
        uploads: list[UploadedImage],
        wish: _Wish,
        explain: str | None,
    ) -> list[dict[str, Any]]:
        """Classify all images; one that can't be read has an error in place of its result, unless none can be read."""
        small, large = asyncio.Semaphore(MAX_AT_ONCE), asyncio.Semaphore(MAX_LARGE_AT_ONCE)

        async def classify_one(upload: UploadedImage) -> dict[str, Any]:
            async with large if len(upload.content) > LARGE_BYTES else small:
                return await self._classify_one(request, loaded, upload, wish, explain)

        results = await asyncio.gather(*(classify_one(upload) for upload in uploads), return_exceptions=True)
        payloads: list[dict[str, Any]] = []
        for upload, outcome in zip(uploads, results, strict=True):
            if isinstance(outcome, BaseException):
                if not isinstance(outcome, HTTPError) or outcome.kind not in ("image", "size") or len(uploads) == 1:
                    raise outcome
                self._context.metrics.count_error(outcome.kind)
                payloads.append({"name": upload.name, "error": outcome.message})
            else:
                payloads.append({"name": upload.name, **outcome})
        if all("error" in payload for payload in payloads):
            raise HTTPError(
                422,
                f"expected at least one image that can be read, got {len(payloads)} that can't; the first: "
                f"{payloads[0]['error']}",
                "image",
            )
        return payloads

    async def _explain(
        self, request: Request, loaded: LoadedModel, upload: UploadedImage, wish: _Wish, explain: str
    ) -> dict[str, Any]:
        model, settings = loaded.model, self._context.settings
        most = min(MAX_DRAWN_PIXELS, settings.max_pixels)
        limit = settings.deadline_seconds
        work = self._context.images.decode(upload.content, DecodeRequest(upload.name, most))
        image, height, width = await cancel_on_disconnect(request.receive, work, limit)
        canvas = DecodedImage(await asyncio.to_thread(model.session.fit, image), height, width)
        result = await self._context.submit(request, loaded, ExplainJob(canvas, *wish))
        payload = image_payload(result.on_image, model.card.classes, height, width, maps=True)
        payload["milliseconds"] = round(result.seconds[-1] * 1e3, 3)
        for time, glimpse in enumerate(payload["glimpses"]):
            glimpse["milliseconds"] = round(result.seconds[time] * 1e3, 3)
        drawing = self._context.images.draw(
            lambda: explanation.draw_explanation(model.session, image, result, explain == "attention"), upload.name
        )
        payload["picture"] = await cancel_on_disconnect(request.receive, drawing, limit)
        return payload


def _limits(loaded: LoadedModel, query: Mapping[str, str]) -> tuple[int | None, float | None]:
    max_glimpses, confidence = query.get("max_glimpses"), query.get("confidence")
    most = loaded.model.card.num_glimpses
    if max_glimpses is not None and not (
        max_glimpses.isascii() and max_glimpses.isdecimal() and len(max_glimpses) < 10
    ):
        raise HTTPError(
            400, f"expected max_glimpses from 1 to {most}, got {max_glimpses!r:.40}; or leave it out", "limit"
        )
    try:
        threshold = None if confidence is None else float(confidence)
    except ValueError:
        raise HTTPError(
            400, f"expected a confidence such as 0.95, got {confidence!r:.40}; leave it out, or write a number", "limit"
        ) from None
    glimpses = None if max_glimpses is None else int(max_glimpses)
    try:
        checked = check_limits(most, glimpses, threshold, None)
    except LimitError as error:
        raise HTTPError(400, str(error), "limit") from error
    return None if glimpses is None else checked.max_glimpses, checked.confidence


def _first_location(loaded: LoadedModel, text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise HTTPError(
            400,
            f"expected a first_location x,y such as 0.5,-0.25, got {text!r:.40}; leave it out, or write two numbers",
            "limit",
        ) from None
    try:
        check_first_location((x, y), loaded.model.card)
    except ArgumentError as error:
        raise HTTPError(400, str(error), "limit") from error
    return x, y


def _check_explain(loaded: LoadedModel, explain: str | None) -> None:
    card = loaded.model.card
    if explain is None:
        return
    if explain not in EXPLAIN:
        raise HTTPError(
            400,
            f"expected explain=path or explain=attention, got {explain!r:.40}; choose one, or leave it out",
            "limit",
        )
    has = _explanations(card)
    if not has[explain]:
        other = next((word for word in EXPLAIN if has[word]), None)
        advice = f"ask for explain={other}" if other else "leave it out: this model has neither glimpses nor maps"
        what = "a retina or windows" if explain == "path" else "attention maps"
        raise HTTPError(
            400,
            f"explain={explain} is for a model with {what}, and {loaded.model.name!r} is a {card.model!r} one; "
            f"{advice}",
            "limit",
        )


def _explanations(card: ModelCard) -> dict[str, bool]:
    """Which explanations a model has: a path of boxes, or attention maps."""
    return dict(zip(EXPLAIN, (card.has_boxes, card.has_maps), strict=True))


def model_reference(loaded: LoadedModel) -> dict[str, str]:
    """Return the name and version of the model that classified.

    Args:
        loaded: The model.
    """
    return {"name": loaded.model.name, "version": str(loaded.model.version)}


def _summary(loaded: LoadedModel, versions: list[int]) -> dict[str, Any]:
    card = loaded.model.card
    return {
        "name": loaded.model.name,
        "versions": [str(version) for version in versions],
        "family": card.model,
        "classes": card.classes,
        "width": card.width,
        "height": card.height,
        "size_policy": card.size_policy,
        "channels": card.channels,
        "num_glimpses": card.num_glimpses,
        "explain": [word for word, has in _explanations(card).items() if has],
        "data": card.data,
        "test_error": card.test_error,
        "license": card.license,
        "sha256": loaded.model.session.sha256,
        "loaded_at": loaded.loaded_at,
    }


def _rejected_files(rejected: Mapping[str, str]) -> list[dict[str, str]]:
    # Clients get the file's name, not its path on the server.
    names = {file: visible(Path(file).name) for file in rejected}
    return [
        {"file": names[file], "error": message.replace(visible(file), names[file])}
        for file, message in rejected.items()
    ]
