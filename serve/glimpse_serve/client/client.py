"""Requests to the service over HTTP."""

import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image

from glimpse.images.lazy import ArrayImage, LazyImage, open_lazily
from glimpse_serve.client.results import Classification, ServiceError, read_classification, read_error
from glimpse_serve.client.streaming import StreamingSession
from glimpse_serve.http.tensor_format import DATATYPES, HEADER_LENGTH

RETRIED_STATUSES = (429, 503)
"""Statuses after which a request is sent again if the service sends Retry-After."""
IMAGE_STATUSES = (413, 422)
"""Statuses of errors of an image, not of the options or the service."""
MAX_IMAGES, MAX_BYTES = 32, 2**22
"""Images and bytes in a request, at most. If the limits of a service are lower, the images are sent one by one."""
MAX_WAIT_SECONDS = 30.0
"""Longest Retry-After that the client waits for, seconds."""
_DATATYPE_NAMES = {dtype.name: name for name, dtype in DATATYPES.items()}

ClientImage = str | Path | bytes | npt.NDArray[np.uint8] | Image.Image
"""A file's path, a file's bytes, uint8 pixels (height, width, 1 or 3 channels), or a Pillow image."""


class Client:
    """A client of the service. Thread-safe.

    Args:
        url: URL of the service, such as ``http://localhost:8000``.
        key: The API key, if the service needs one.
        timeout: Longest time to wait for a response, seconds.
        retries: How often a request is sent again when the service is overloaded or the rate limit is exceeded.
        verify: Verification of TLS certificates, as httpx takes it.
    """

    def __init__(
        self, url: str, key: str | None = None, timeout: float = 30.0, retries: int = 3, verify: Any = True
    ) -> None:
        self._url, self._retries, self._timeout, self._verify = url.rstrip("/"), retries, timeout, verify
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=self._url, headers=self._headers, timeout=timeout, verify=verify)

    def __enter__(self) -> "Client":
        """Return the client; it is closed when the block ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Return whether the service takes requests."""
        try:
            return self._http.get("/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def models(self) -> list[dict[str, Any]]:
        """List the models; the first is the default."""
        listed: list[dict[str, Any]] = self._request("GET", "/v1/models").json()["models"]
        return listed

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Describe a model, with its card.

        Args:
            name: Its name.
            version: Its version; the greatest by default.
        """
        content: dict[str, Any] = self._request(
            "GET", f"/v1/models/{name}", params=_without_none(version=version)
        ).json()
        return content

    def classify(
        self,
        image: ClientImage,
        *,
        model: str | None = None,
        version: str | None = None,
        confidence: float | None = None,
        max_glimpses: int | None = None,
        first_location: tuple[float, float] | None = None,
        explain: str | None = None,
    ) -> Classification:
        """Classify an image.

        Args:
            image: The image, see :data:`ClientImage`.
            model: Name of the model; the first by default.
            version: Version of the model; the greatest by default.
            confidence: Probability at which the model stops.
            max_glimpses: Largest number of glimpses.
            first_location: Where the first glimpse is taken, (x, y) in [-1, 1] of the image; its centre by default.
            explain: ``path`` or ``attention``: returns a picture that explains the prediction.

        Raises:
            ServiceError: When the service returns an error or can't be reached.
        """
        params = _without_none(
            model=model,
            version=version,
            confidence=confidence,
            max_glimpses=max_glimpses,
            first_location=None if first_location is None else ",".join(str(float(each)) for each in first_location),
            explain=explain,
        )
        data, kind = _image_file(image), {"Content-Type": "application/octet-stream"}
        content = self._request("POST", "/v1/classify", params=params, content=data, headers=kind).json()
        return read_classification(content, content["model"])

    def classify_many(self, images: Iterable[ClientImage], **options: Any) -> list[Classification | ServiceError]:
        """Classify several images, a few dozen in a request.

        Args:
            images: The images, see :data:`ClientImage`.
            options: The options of :meth:`classify`.

        Returns:
            For each image its classification, or its error.

        Raises:
            ServiceError: When the options are invalid or the service fails.
        """
        results: list[Classification | ServiceError] = []
        for files in _request_batches(_image_file(image) for image in images):
            form = [("image", (str(len(results) + number), data)) for number, data in enumerate(files)]
            try:
                content = self._request("POST", "/v1/classify", params=_without_none(**options), files=form).json()
            except ServiceError as error:
                if error.status not in IMAGE_STATUSES:
                    raise
                results += [error] if len(files) == 1 else [self._one_of_many(data, options) for data in files]
                continue
            results += [
                ServiceError(422, each["error"]) if "error" in each else read_classification(each, content["model"])
                for each in content["images"]
            ]
        return results

    def _one_of_many(self, data: bytes, options: dict[str, Any]) -> Classification | ServiceError:
        try:
            return self.classify(data, **options)
        except ServiceError as error:
            if error.status not in IMAGE_STATUSES:
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
            inputs: uint8, int64 or float32 tensors, by name.
            outputs: Names of the outputs to return; all by default.
            version: Its version; the greatest by default.

        Raises:
            ServiceError: When the service returns an error or can't be reached.
        """
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        known = _DATATYPE_NAMES
        unknown = [f"{name} of {array.dtype}" for name, array in arrays.items() if str(array.dtype) not in known]
        if unknown:
            raise ServiceError(0, f"expected tensors of {', '.join(known)}, got {', '.join(unknown)}; convert them")
        request: dict[str, Any] = {
            "inputs": [
                {
                    "name": name,
                    "shape": list(inputs[name].shape),
                    "datatype": known[str(array.dtype)],
                    "parameters": {"binary_data_size": array.nbytes},
                }
                for name, array in arrays.items()
            ],
            "parameters": {"binary_data_output": True},
        }
        if outputs is not None:
            request["outputs"] = [{"name": name} for name in outputs]
        head = json.dumps(request).encode()
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
        headers = {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
        data = b"".join((head, *(array.tobytes() for array in arrays.values())))
        response = self._request("POST", f"{path}/infer", content=data, headers=headers)
        return _read_tensors(response.content, int(response.headers[HEADER_LENGTH]))

    def look(
        self,
        image: LazyImage | npt.NDArray[np.uint8] | str | Path,
        *,
        model: str | None = None,
        version: str | None = None,
        confidence: float | None = None,
        max_glimpses: int | None = None,
        first_location: tuple[float, float] | None = None,
    ) -> "StreamingSession":
        """Classify an image of any size over a WebSocket: only the pixels of the glimpses are sent.

        Args:
            image: A lazy image, see :mod:`glimpse.images.lazy`; a file's path (.npy, .zarr, a tiled .tif); or uint8
                pixels (height, width, channels).
            model: Name of the model; the first by default.
            version: Version of the model; the greatest by default.
            confidence: Probability at which the model stops.
            max_glimpses: Largest number of glimpses.
            first_location: Where the first glimpse is taken, (x, y) in [-1, 1] of the image; its centre by default.

        Returns:
            An iterator of the glimpses as they are taken; afterwards it has the ``classification``.

        Raises:
            ServiceError: During the iteration, when the service returns an error or can't be reached.
        """
        if isinstance(image, np.ndarray):
            image = ArrayImage(image)
        elif isinstance(image, str | Path):
            image = open_lazily(Path(image))
        start: dict[str, Any] = {"width": image.size[0], "height": image.size[1], "channels": image.channels}
        start |= _without_none(confidence=confidence, max_glimpses=max_glimpses)
        start |= {} if first_location is None else {"first_location": [float(each) for each in first_location]}
        query = httpx.QueryParams(_without_none(model=model, version=version))
        address = f"ws{self._url.removeprefix('http')}/v1/look" + (f"?{query}" if query else "")
        return StreamingSession(image, start, address, self._headers, self._timeout, self._verify)

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        for retries_left in range(self._retries, -1, -1):
            try:
                response = self._http.request(method, path, **options)
            except httpx.RemoteProtocolError:
                if retries_left:  # the service closed a kept connection; requests change no state
                    continue
                raise ServiceError(
                    0, f"the service at {self._url} closes the connection without a response; see its log"
                ) from None
            except httpx.TransportError as error:
                raise ServiceError(
                    0,
                    f"the service at {self._url} does not respond ({error or type(error).__name__}); check that it "
                    "runs",
                ) from error
            wait = response.headers.get("retry-after", "")
            may_retry = retries_left and response.status_code in RETRIED_STATUSES
            if not (may_retry and wait.isdecimal() and int(wait) <= MAX_WAIT_SECONDS):
                break
            time.sleep(int(wait))
        if response.is_error:
            raise read_error(response.status_code, response.content)
        return response


def _request_batches(files: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Split files into lists within the limits of one request."""
    batch: list[bytes] = []
    for data in files:
        if batch and (len(batch) == MAX_IMAGES or sum(map(len, batch)) + len(data) > MAX_BYTES):
            yield batch
            batch = []
        batch.append(data)
    if batch:
        yield batch


def _without_none(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _image_file(image: ClientImage) -> bytes:
    """Return the bytes of an image file."""
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


def _read_tensors(data: bytes, length: int) -> dict[str, npt.NDArray[Any]]:
    results, offset = {}, length
    for tensor in json.loads(data[:length])["outputs"]:
        end = offset + tensor["parameters"]["binary_data_size"]
        array = np.frombuffer(data[offset:end], DATATYPES[tensor["datatype"]])
        results[tensor["name"]] = array.reshape(tensor["shape"])
        offset = end
    return results
