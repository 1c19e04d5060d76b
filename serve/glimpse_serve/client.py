"""A small client of the service, for Python: ``pip install 'glimpse-attention[client]'``.

from glimpse_serve.client import Client

with Client("http://localhost:8000", key="...") as client:
    answer = client.classify("photo.png", confidence=0.98)
    print(answer.label, answer.confidence, [glimpse.boxes for glimpse in answer.glimpses])
    for glimpse in client.look(slide):  # a lazy image: only what is looked at is sent
        print(glimpse.boxes, glimpse.label)
"""

import base64
import contextlib
import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image

from glimpse.images.lazy import ArrayImage, LazyImage, open_lazily

RETRIED = (429, 503)
"""Statuses after which it is tried again, when the service says so."""
OF_IMAGES = (413, 422)
"""Statuses that are an image's fault, and not that of how it was asked for."""
MAX_IMAGES, MAX_BYTES = 32, 2**22
"""Of one request with several images; a service may be set to take less, and then gets them one by one."""
MAX_WINDOW = 2**22
"""Bytes of pixels that a service may ask for at once."""
LONGEST_WAIT = 30.0
"""Seconds that a service may have a client wait before it tries again."""
DATATYPES = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}
HEADER_LENGTH = "Inference-Header-Content-Length"


class ServiceError(Exception):
    """What the service refused, or that it could not be reached.

    Attributes:
        status: Its HTTP status; 0 where there was no answer.
        sentence: What was expected, what came, and what to do.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(f"{sentence} ({status})" if status else sentence)
        self.status, self.sentence = status, sentence


class Glimpse(NamedTuple):
    """What the model believed after one glimpse."""

    time: int
    """Which glimpse this was, from 0."""
    label: str
    """The class."""
    confidence: float
    """Its probability."""
    location: tuple[float, float] | None
    """Where it looked, (x, y) in [-1, 1] of the image; None for a model that takes an image in at once."""
    boxes: npt.NDArray[np.float64] | None
    """(scales, 4) windows in pixels, (left, top, right, bottom), finest first; None for a model without a retina."""
    map: npt.NDArray[np.float64] | None
    """Attention weights over equal cells; None unless ``explain="attention"`` was asked for."""
    milliseconds: float | None
    """When the belief was there, from the beginning of the first glimpse; None where it was not measured."""


class Classification(NamedTuple):
    """What an image shows."""

    label: str
    """The class."""
    confidence: float
    """Its probability."""
    probabilities: dict[str, float]
    """Of all classes."""
    glimpses: tuple[Glimpse, ...]
    reason: str
    """Why the model stopped: ``confident`` or ``budget``."""
    width: int
    height: int
    model: str
    """Its name."""
    version: str
    """Of the model."""
    picture: bytes | None
    """A PNG of how the answer came about; None unless ``explain`` was asked for."""


Picture = str | Path | bytes | npt.NDArray[np.uint8] | Image.Image
"""A file's path, a file's bytes, uint8 pixels (height, width, 1 or 3 channels), or a picture of Pillow."""


class Client:
    """A service, to be asked. Threads may share it.

    Args:
        url: Where it is, such as ``http://localhost:8000``.
        key: The API key, if one is wanted.
        timeout: Seconds to wait for an answer.
        retries: How often a request that the service is too busy for is sent again, when the service says it may.
        verify: Whose certificates are trusted, as httpx takes it.
    """

    def __init__(
        self, url: str, key: str | None = None, timeout: float = 30.0, retries: int = 3, verify: Any = True
    ) -> None:
        self._url, self._retries, self._timeout, self._verify = url.rstrip("/"), retries, timeout, verify
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=self._url, headers=self._headers, timeout=timeout, verify=verify)

    def __enter__(self) -> "Client":
        """Use it until the block ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close its connections."""
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def ready(self) -> bool:
        """Say whether the service takes requests."""
        try:
            return self._http.get("/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def models(self) -> list[dict[str, Any]]:
        """List the models, the one that is asked by default first."""
        listed: list[dict[str, Any]] = self._ask("GET", "/v1/models").json()["models"]
        return listed

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Tell all of a model, its card included.

        Args:
            name: Its name.
            version: Its version; the greatest by default.
        """
        told: dict[str, Any] = self._ask("GET", f"/v1/models/{name}", params=_given(version=version)).json()
        return told

    def classify(
        self,
        image: Picture,
        *,
        model: str | None = None,
        version: str | None = None,
        confidence: float | None = None,
        max_glimpses: int | None = None,
        explain: str | None = None,
    ) -> Classification:
        """Ask what an image shows.

        Args:
            image: See :data:`Picture`.
            model: Which model; the first by default.
            version: Which version; the greatest by default.
            confidence: Probability at which it stops looking.
            max_glimpses: Glimpses at most.
            explain: ``path`` or ``attention``: how the answer came about, with a picture.

        Raises:
            ServiceError: When it is refused.
        """
        params = _given(model=model, version=version, confidence=confidence, max_glimpses=max_glimpses, explain=explain)
        content, kind = _file(image), {"Content-Type": "application/octet-stream"}
        told = self._ask("POST", "/v1/classify", params=params, content=content, headers=kind).json()
        return _answer(told, told["model"])

    def classify_many(self, images: Iterable[Picture], **options: Any) -> list[Classification | ServiceError]:
        """Ask what several images show, a few dozen in a request.

        Args:
            images: See :data:`Picture`.
            options: Those of :meth:`classify`.

        Returns:
            For each its answer, or why it was refused.

        Raises:
            ServiceError: When not the images are at fault, but the options or the service.
        """
        found: list[Classification | ServiceError] = []
        for files in _in_requests(_file(image) for image in images):
            form = [("image", (str(len(found) + number), content)) for number, content in enumerate(files)]
            try:
                told = self._ask("POST", "/v1/classify", params=_given(**options), files=form).json()
            except ServiceError as error:
                if error.status not in OF_IMAGES:
                    raise
                found += [error] if len(files) == 1 else [self._one_of_many(content, options) for content in files]
                continue
            found += [
                ServiceError(422, each["error"]) if "error" in each else _answer(each, told["model"])
                for each in told["images"]
            ]
        return found

    def _one_of_many(self, content: bytes, options: dict[str, Any]) -> Classification | ServiceError:
        try:
            return self.classify(content, **options)
        except ServiceError as error:
            if error.status not in OF_IMAGES:
                raise
            return error

    def infer(
        self,
        model: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        outputs: Sequence[str] | None = None,
        version: str | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Run a model's graph on tensors, by the Open Inference Protocol v2 with binary tensors.

        Args:
            model: Its name.
            inputs: uint8, int64 or float32, by name.
            outputs: Names of those that are wanted; all by default.
            version: The greatest by default.

        Raises:
            ServiceError: When it is refused.
        """
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        unknown = [f"{name} of {array.dtype}" for name, array in arrays.items() if str(array.dtype) not in DATATYPES]
        if unknown:
            raise ServiceError(0, f"expected tensors of {', '.join(DATATYPES)}, got {', '.join(unknown)}; convert them")
        asked: dict[str, Any] = {
            "inputs": [
                {
                    "name": name,
                    "shape": list(inputs[name].shape),
                    "datatype": DATATYPES[str(array.dtype)],
                    "parameters": {"binary_data_size": array.nbytes},
                }
                for name, array in arrays.items()
            ],
            "parameters": {"binary_data_output": True},
        }
        if outputs is not None:
            asked["outputs"] = [{"name": name} for name in outputs]
        head = json.dumps(asked).encode()
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
        headers = {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
        content = b"".join((head, *(array.tobytes() for array in arrays.values())))
        response = self._ask("POST", f"{path}/infer", content=content, headers=headers)
        return _tensors(response.content, int(response.headers[HEADER_LENGTH]))

    def look(
        self,
        image: LazyImage | npt.NDArray[np.uint8] | str | Path,
        *,
        model: str | None = None,
        version: str | None = None,
        confidence: float | None = None,
        max_glimpses: int | None = None,
    ) -> "StreamingSession":
        """Have a model look at an image of any size that stays here: only the pixels it looks at are sent.

        Args:
            image: An image that is read by parts, see :mod:`glimpse.images.lazy`; its file's path (.npy, .zarr, a tiled
                .tif); or uint8 pixels (height, width, channels).
            model: Which model; the first by default.
            version: Which version; the greatest by default.
            confidence: Probability at which it stops looking.
            max_glimpses: Glimpses at most.

        Returns:
            Glimpses, as they are taken; when they have ended, its ``answer``.

        Raises:
            ServiceError: As it looks, when it is refused.
        """
        if isinstance(image, np.ndarray):
            image = ArrayImage(image)
        elif isinstance(image, str | Path):
            image = open_lazily(Path(image))
        first = {"width": image.size[0], "height": image.size[1], "channels": image.channels}
        first |= _given(confidence=confidence, max_glimpses=max_glimpses)
        query = httpx.QueryParams(_given(model=model, version=version))
        address = f"ws{self._url.removeprefix('http')}/v1/look" + (f"?{query}" if query else "")
        return StreamingSession(image, first, address, self._headers, self._timeout, self._verify)

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        for left in range(self._retries, -1, -1):
            try:
                response = self._http.request(method, path, **options)
            except httpx.RemoteProtocolError:
                if (
                    left
                ):  # the service has just closed a connection that was kept; nothing that is asked here changes it
                    continue
                raise ServiceError(0, f"the service at {self._url} breaks off; see what its log says") from None
            except httpx.TransportError as error:
                raise ServiceError(
                    0, f"the service at {self._url} does not answer ({error or type(error).__name__}); see that it runs"
                ) from error
            wait = response.headers.get("retry-after", "")
            if response.status_code in RETRIED and left and wait.isdecimal() and int(wait) <= LONGEST_WAIT:
                time.sleep(int(wait))
                continue
            break
        if response.is_error:
            raise _error(response.status_code, response.content)
        return response


class StreamingSession:
    """A look that goes on: an iterator of glimpses.

    Attributes:
        answer: What the image shows; None until the last glimpse was taken.
        bytes_sent: Of pixels, so far.

    Args:
        image: What is looked at.
        first: What the service is told of it.
        address: Of the WebSocket.
        headers: With the key.
        timeout: Seconds to wait for whatever the service says next.
        verify: Whose certificates are trusted.
    """

    def __init__(
        self,
        image: LazyImage,
        first: dict[str, Any],
        address: str,
        headers: dict[str, str],
        timeout: float,
        verify: Any,
    ) -> None:
        self._image, self._first, self._address = image, first, address
        self._headers, self._timeout, self._verify = headers, timeout, verify
        self.answer: Classification | None = None
        self.bytes_sent = 0

    def __iter__(self) -> Iterator[Glimpse]:
        """Look. Each time it is iterated over the look begins anew."""
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
        from websockets.sync.client import connect

        self.answer, self.bytes_sent = None, 0
        secure = httpx.create_ssl_context(self._verify) if self._address.startswith("wss") else None
        try:
            with connect(
                self._address,
                ssl=secure,
                additional_headers=self._headers,
                open_timeout=self._timeout,
                max_size=2**24,
            ) as talk:
                talk.send(json.dumps(self._first))
                while self.answer is None:
                    told = json.loads(talk.recv(self._timeout))
                    if told["type"] == "ask":
                        left, top, right, bottom = told["box"]
                        if (right - left) * (bottom - top) * self._image.channels > MAX_WINDOW:
                            raise ServiceError(0, f"the service asks for too many pixels at once, {told['box']}")
                        pixels = np.ascontiguousarray(self._image.read((left, top, right, bottom))).tobytes()
                        self.bytes_sent += len(pixels)
                        talk.send(pixels)
                    elif told["type"] == "glimpse":
                        yield _glimpse(told)
                    elif told["type"] == "error":
                        raise ServiceError(told["status"], told["error"])
                    else:
                        self.answer = _answer(told, told["model"])
        except InvalidStatus as error:
            raise _error(error.response.status_code, bytes(error.response.body or b"")) from error
        except (OSError, ConnectionClosed, InvalidHandshake) as error:
            raise ServiceError(
                0, f"the conversation with {self._address} broke off ({error or type(error).__name__}); look again"
            ) from error


def _in_requests(files: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Files in lists that are not too much for one request."""
    some: list[bytes] = []
    for content in files:
        if some and (len(some) == MAX_IMAGES or sum(map(len, some)) + len(content) > MAX_BYTES):
            yield some
            some = []
        some.append(content)
    if some:
        yield some


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _file(image: Picture) -> bytes:
    """The bytes of an image file."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return Path(image).read_bytes()
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
            raise ServiceError(
                0,
                f"expected pixels as uint8 (height, width, 1 or 3 channels), got {image.dtype} {image.shape}",
            )
        image = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _answer(told: dict[str, Any], model: dict[str, str]) -> Classification:
    picture = base64.b64decode(told["picture"].partition(",")[2]) if "picture" in told else None
    glimpses = tuple(_glimpse(each) for each in told["glimpses"])
    return Classification(
        told["class"],
        told["confidence"],
        told["probabilities"],
        glimpses,
        told["reason"],
        told["width"],
        told["height"],
        model["name"],
        model["version"],
        picture,
    )


def _glimpse(told: dict[str, Any]) -> Glimpse:
    location, boxes, attention = (told.get(name) for name in ("location", "boxes", "map"))
    return Glimpse(
        told["time"],
        told["class"],
        told["confidence"],
        None if location is None else (location[0], location[1]),
        None if boxes is None else np.array(boxes, np.float64),
        None if attention is None else np.array(attention, np.float64),
        told.get("milliseconds"),
    )


def _tensors(content: bytes, length: int) -> dict[str, npt.NDArray[Any]]:
    known = {word: np.dtype(name).newbyteorder("<") for name, word in DATATYPES.items()}
    found, at = {}, length
    for entry in json.loads(content[:length])["outputs"]:
        end = at + entry["parameters"]["binary_data_size"]
        array = np.frombuffer(content[at:end], known[entry["datatype"]])
        found[entry["name"]] = array.reshape(entry["shape"])
        at = end
    return found


def _error(status: int, content: bytes) -> ServiceError:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return ServiceError(status, str(json.loads(content)["error"]))
    return ServiceError(status, f"expected an answer of the service, got HTTP status {status} without a sentence")
