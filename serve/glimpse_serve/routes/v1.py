"""The plain interface for people: an image in, and what it shows, how sure, and where the model looked."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glimpse.images.pixels import decode
from glimpse.runtime.limits import LimitError, check_limits
from glimpse.runtime.payload import image_payload
from glimpse_serve.errors import HTTPError
from glimpse_serve.http.bodies import MAX_APART, Part, images, is_form
from glimpse_serve.http.compression import pack
from glimpse_serve.http.request import Handler, Request, Response, json_response
from glimpse_serve.inference import explanation
from glimpse_serve.inference.jobs import ClassifyJob, ClassifyResult, DecodedImage, ExplainJob
from glimpse_serve.models.registry import LoadedModel
from glimpse_serve.routes.context import AppContext

EXPLAIN = ("path", "attention")
CLASSIFY_QUERY = ("model", "version", "confidence", "max_glimpses", "explain")
MODEL_QUERY = ("version",)
MAX_AT_ONCE = MAX_APART // 2
"""Images of one form that are worked on at once: by itself a form is never too much for the service."""
MAX_DRAWN_PIXELS = 2**22
"""A larger image is not drawn."""


class V1Routes:
    """The handlers of the plain interface.

    Args:
        house: What they share.
    """

    def __init__(self, house: AppContext) -> None:
        self._house = house

    def routes(self) -> dict[str, Mapping[str, Handler]]:
        """Handlers by the templates of their paths."""
        return {
            "/v1/classify": {"POST": self.classify},
            "/v1/models": {"GET": self.models},
            "/v1/models/{model}": {"GET": self.model},
        }

    async def models(self, asked: Request) -> Response:
        """List the models."""
        asked.query()
        registry = self._house.registry
        listed = [_summary(registry.find(name), registry.versions(name)) for name in registry.names]
        return json_response({"models": listed, "refused": _refused(registry.refused)})

    async def model(self, asked: Request) -> Response:
        """Tell all that a model says of itself."""
        query = asked.query(*MODEL_QUERY)
        registry = self._house.registry
        entry = registry.find(asked.path["model"], query.get("version"))
        summary = _summary(entry, registry.versions(entry.model.name))
        summary["version"] = str(entry.model.version)
        return json_response({**summary, "card": asdict(entry.model.card)})

    async def classify(self, asked: Request) -> Response:
        """Classify the image or images of a request."""
        query = asked.query(*CLASSIFY_QUERY)
        entry = self._house.registry.find(query.get("model"), query.get("version"))
        asked.model = entry.model.name
        limits = _limits(entry, query)
        explain = query.get("explain")
        _check_explain(entry, explain)
        async with self._house.intake.body(asked.headers, asked.receive) as body:
            asked.bytes_in = len(body)
            parts = images(asked.headers, body, self._house.settings.max_images)
            if not is_form(asked.headers):
                said = await self._one(asked, entry, parts[0], limits, explain)
                content = {"model": model_of(entry), **said}
            else:
                content = {
                    "model": model_of(entry),
                    "images": await self._several(asked, entry, parts, limits, explain),
                }
        accepted = asked.headers.get("accept-encoding", "")
        if explain is None:
            return pack(json_response(content), accepted)
        # Pictures are large, and others need not wait while they are written.
        return await asyncio.to_thread(lambda: pack(json_response(content), accepted))

    async def _one(
        self,
        asked: Request,
        entry: LoadedModel,
        part: Part,
        limits: tuple[int | None, float | None],
        explain: str | None,
    ) -> dict[str, Any]:
        if explain:
            return await self._explained(asked, entry, part, limits)
        looked: ClassifyResult = await self._house.ask(asked, entry, ClassifyJob(part.content, part.name, *limits))
        said = image_payload(looked.found, entry.model.card.classes, looked.height, looked.width)
        said["milliseconds"] = round(looked.model_seconds * 1e3, 3)
        return said

    async def _several(
        self,
        asked: Request,
        entry: LoadedModel,
        parts: list[Part],
        limits: tuple[int | None, float | None],
        explain: str | None,
    ) -> list[dict[str, Any]]:
        """Answers for all images; one that can't be read has an error in place of its answer, unless none can."""
        room = asyncio.Semaphore(MAX_AT_ONCE)

        async def answered(part: Part) -> dict[str, Any]:
            async with room:
                return await self._one(asked, entry, part, limits, explain)

        found = await asyncio.gather(*(answered(part) for part in parts), return_exceptions=True)
        said: list[dict[str, Any]] = []
        for part, answer in zip(parts, found, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, HTTPError) or answer.kind not in ("image", "size") or len(parts) == 1:
                    raise answer
                self._house.metrics.refused(answer.kind)
                said.append({"name": part.name, "error": answer.sentence})
            else:
                said.append({"name": part.name, **answer})
        if all("error" in answer for answer in said):
            raise HTTPError(
                422,
                f"expected at least one image that can be read, got {len(said)} that can't; the first: "
                f"{said[0]['error']}",
                "image",
            )
        return said

    async def _explained(
        self, asked: Request, entry: LoadedModel, part: Part, limits: tuple[int | None, float | None]
    ) -> dict[str, Any]:
        model, settings = entry.model, self._house.settings
        most = min(MAX_DRAWN_PIXELS, settings.max_pixels)

        def prepare() -> tuple[Any, DecodedImage]:
            image = decode(part.content, part.name, most)
            return image, DecodedImage(model.session.fit(image), image.shape[0], image.shape[1])

        image, canvas = await self._house.intake.apart(prepare, part.name)
        seen = await self._house.ask(asked, entry, ExplainJob(canvas, *limits))
        said = image_payload(seen.on_image, model.card.classes, canvas.height, canvas.width, maps=True)
        said["milliseconds"] = round(seen.seconds[-1] * 1e3, 3)
        for time, glimpse in enumerate(said["glimpses"]):
            glimpse["milliseconds"] = round(seen.seconds[time] * 1e3, 3)
        said["picture"] = await self._house.intake.apart(
            lambda: explanation.picture(model.session, image, seen), part.name
        )
        return said


def _limits(entry: LoadedModel, query: Mapping[str, str]) -> tuple[int | None, float | None]:
    max_glimpses, confidence = query.get("max_glimpses"), query.get("confidence")
    most = entry.model.card.num_glimpses
    if max_glimpses is not None and not (
        max_glimpses.isascii() and max_glimpses.isdecimal() and len(max_glimpses) < 10
    ):
        raise HTTPError(
            400, f"expected max_glimpses from 1 to {most}, got {max_glimpses!r:.40}; or leave it out", "limit"
        )
    try:
        sure = None if confidence is None else float(confidence)
    except ValueError:
        raise HTTPError(
            400, f"expected a confidence such as 0.95, got {confidence!r:.40}; leave it out, or write a number", "limit"
        ) from None
    glimpses = None if max_glimpses is None else int(max_glimpses)
    try:
        checked = check_limits(most, glimpses, sure, None)
    except LimitError as error:
        raise HTTPError(400, str(error), "limit") from error
    return None if glimpses is None else checked.max_glimpses, checked.confidence


def _check_explain(entry: LoadedModel, explain: str | None) -> None:
    card = entry.model.card
    if explain is None:
        return
    if explain not in EXPLAIN:
        raise HTTPError(
            400,
            f"expected explain=path or explain=attention, got {explain!r:.40}; choose one, or leave it out",
            "limit",
        )
    has = {"path": card.has_retina, "attention": card.has_maps}
    if not has[explain]:
        other = next((word for word in EXPLAIN if has[word]), None)
        advice = f"ask for explain={other}" if other else "leave it out: this model takes an image in at once"
        what = "looks through a retina" if explain == "path" else "spreads its attention over a map"
        raise HTTPError(
            400,
            f"explain={explain} is for a model that {what}, and {entry.model.name!r} is a {card.model!r} one; {advice}",
            "limit",
        )


def model_of(entry: LoadedModel) -> dict[str, str]:
    """Say which model answered.

    Args:
        entry: The model.
    """
    return {"name": entry.model.name, "version": str(entry.model.version)}


def _summary(entry: LoadedModel, versions: list[int]) -> dict[str, Any]:
    card = entry.model.card
    return {
        "name": entry.model.name,
        "versions": [str(version) for version in versions],
        "family": card.model,
        "classes": card.classes,
        "width": card.width,
        "height": card.height,
        "channels": card.channels,
        "num_glimpses": card.num_glimpses,
        "explain": [word for word, has in zip(EXPLAIN, (card.has_retina, card.has_maps), strict=True) if has],
        "data": card.data,
        "test_error": card.test_error,
        "license": card.license,
        "sha256": entry.model.session.sha256,
        "loaded_at": entry.loaded_at,
    }


def _refused(refused: Mapping[str, str]) -> list[dict[str, str]]:
    # Where on its disk the server has its files is nobody's business.
    named = {file: Path(file).name for file in refused}
    return [{"file": named[file], "error": said.replace(file, named[file])} for file, said in refused.items()]
