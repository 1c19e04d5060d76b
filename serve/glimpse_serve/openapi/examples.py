"""Examples of the documentation: requests, the recorded responses of a bundled model, and commands to paste.

What the bundled models return is shown where they are served. Where others are, there are only the examples that hold
for any model, and a request that is made from a card.

``GLIMPSE_RECORD=1 pytest tests/serve/openapi/test_examples.py`` sends the requests to the service and records the
responses.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from glimpse.contract.card import ModelCard
from glimpse.contract.tensors import INPUT, PROBABILITIES
from glimpse_serve.models.registry import LoadedModel
from glimpse_serve.routes.v2_tensors import wire_inputs

SEVEN = """\
iVBORw0KGgoAAAANSUhEUgAAADwAAAA8AgMAAABHkjHhAAAADFBMVEX////g4OBRUVEAAADz2lU+AAAA0UlEQVR42s2SPQrCQBCF
30YFwSJ2tt7E9DZWAa3sPYMoHsJSbD2AtY1HCDYWIgi2CdiYv2eRRGeCP5XodN++3TczO2MIFRb+jndDecDUsfkIC+HBUfdrS/3e
kjLMz/qN5iMAKApPALTI6r0vtx8uhE6SXVL60dP+bGqOeppjR/sdqf2CUr3rEm8109OctqH8LxuSgn3qfEHpfz7x9hkL/2SS5Vvl
fGqQNLzW8xHPzBgA/UGu788kkZUl9ifrxZ0WXfokGaOj9Erycr722/l/e99ulFq7uJcLDcgAAAAASUVORK5CYII="""
"""A PNG of a seven with clutter, 60 by 60 pixels, in base64, drawn for these examples."""
MODEL = "digits-hard"
"""The model of the responses."""
BOUNDARY = "a-line-between"


class Sample(NamedTuple):
    """A request.

    Attributes:
        method: HTTP method.
        path: Path with ``{model}`` in place of a model's name.
        body: The body.
        media_type: Media type of the body.
        summary: What the example shows.
    """

    method: str
    path: str
    body: bytes = b""
    media_type: str = ""
    summary: str = ""


def example_image() -> bytes:
    """The example image, a PNG file."""
    return base64.b64decode(SEVEN)


def multipart_form(*files: tuple[str, bytes]) -> bytes:
    """A multipart form with files, as browsers and curl write it.

    Args:
        files: Names and contents of the files.
    """
    lines = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="image"; filename="%b"\r\n\r\n%b\r\n'
        % (BOUNDARY.encode(), name.encode(), content)
        for name, content in files
    )
    return lines + b"--%b--\r\n" % BOUNDARY.encode()


INFERENCE: dict[str, Any] = {
    "id": "one-small-image",
    "inputs": [
        {
            "name": "images",
            "datatype": "UINT8",
            "shape": [1, 1, 4, 4],
            "data": [0, 255, 255, 0, 0, 0, 255, 0, 0, 255, 0, 0, 0, 255, 0, 0],
        }
    ],
    "outputs": [{"name": "probabilities"}, {"name": "locations"}],
}
"""An inference request of the Open Inference Protocol for a model of grey images of any size."""

SAMPLES = {
    "classified": Sample("POST", "/v1/classify?confidence=0.99", example_image(), "image/png", "one image"),
    "explained": Sample(
        "POST",
        "/v1/classify?explain=path&max_glimpses=4",
        example_image(),
        "image/png",
        "one image, with its explanation",
    ),
    "several": Sample(
        "POST",
        "/v1/classify?max_glimpses=1",
        multipart_form(("seven.png", example_image()), ("notes.txt", b"no image")),
        f"multipart/form-data; boundary={BOUNDARY}",
        "several images, of which one can't be read",
    ),
    "models": Sample("GET", "/v1/models"),
    "model": Sample("GET", "/v1/models/{model}"),
    "server": Sample("GET", "/v2"),
    "live": Sample("GET", "/v2/health/live"),
    "ready": Sample("GET", "/v2/health/ready"),
    "model_ready": Sample("GET", "/v2/models/{model}/ready"),
    "metadata": Sample("GET", "/v2/models/{model}"),
    "index": Sample("POST", "/v2/repository/index"),
    "inferred": Sample("POST", "/v2/models/{model}/infer", json.dumps(INFERENCE).encode(), "application/json"),
}
"""Requests that succeed, by the names of their responses."""
ERRORS = {
    400: Sample("POST", "/v1/classify?confidence=2", example_image(), "image/png"),
    404: Sample("GET", "/v1/models/nobody"),
    415: Sample("POST", "/v1/classify", b"%PDF-1.4", "application/pdf"),
    422: Sample("POST", "/v1/classify", example_image()[:200], "image/png"),
}
"""Requests that fail, by the status of their responses."""


REQUEST = "request"
"""The name of the example of an inference request."""
GENERAL = ("server", "live", "ready", "400", "415", "422")
"""Names of the recorded responses that are the same for every model."""
SIDE = 4
"""Height and width of the image of a request that is made from a card, pixels."""


@cache
def responses() -> dict[str, Any]:
    """The recorded responses, by the names of the samples or by status."""
    found: dict[str, Any] = json.loads(resources.files("glimpse_serve.openapi").joinpath("examples.json").read_bytes())
    return found


def recorded() -> dict[str, Any]:
    """All examples of the bundled models: the recorded responses, and a request."""
    return {**responses(), REQUEST: INFERENCE}


def are_bundled(models: Iterable[LoadedModel]) -> bool:
    """Return whether the bundled models are served, under their own names, so that the recorded responses hold.

    Args:
        models: The served models.
    """
    wanted = {(model["name"], model["sha256"]) for model in responses()["models"]["models"]}
    return wanted <= {(loaded.model.name, loaded.model.session.sha256) for loaded in models}


def shown_for(models: Sequence[LoadedModel]) -> dict[str, Any]:
    """Return the examples that hold for the served models, by the names of the samples or by status.

    Args:
        models: The served models.
    """
    if are_bundled(models):
        return recorded()
    cards = [loaded.model.card for loaded in models]
    requests = [_inference_request(card) for card in cards if card.any_size and INPUT in card.inputs]
    return {name: responses()[name] for name in GENERAL} | ({REQUEST: requests[0]} if requests else {})


def _inference_request(card: ModelCard) -> dict[str, Any]:
    """A request with a small grey image, for a model of images of any size."""
    datatype, (_, channels, *_) = wire_inputs(card)[INPUT]
    grey = 0.5 if datatype == "FP32" else 128
    shape = [1, channels, SIDE, SIDE]
    image = {"name": INPUT, "datatype": datatype, "shape": shape, "data": [grey] * (channels * SIDE * SIDE)}
    return {"inputs": [image], "outputs": [{"name": PROBABILITIES}]}


def curl(address: str, key: bool, drawn: bool = True) -> str:
    """Shell commands that classify the example image, or a file of the reader's.

    Args:
        address: URL of the service.
        key: Whether it needs an API key.
        drawn: Whether they write the example image, a handwritten digit; else they expect ``image.png``.
    """
    secret = ' -H "X-API-Key: $GLIMPSE_KEY"' if key else ""
    if not drawn:
        return f"""\
curl{secret} --data-binary @image.png '{address}/v1/classify'
curl{secret} -F image=@image.png -F image=@image.png '{address}/v1/classify?max_glimpses=1'
"""
    return f"""\
base64 -d > seven.png <<END
{SEVEN}
END
curl{secret} --data-binary @seven.png '{address}/v1/classify?confidence=0.99'
curl{secret} -F image=@seven.png -F image=@seven.png '{address}/v1/classify?max_glimpses=2'
"""


def python(address: str, key: bool, drawn: bool = True) -> str:
    """A program that classifies the example image or a file of the reader's, with the standard library alone.

    Args:
        address: URL of the service.
        key: Whether it needs an API key.
        drawn: Whether it holds the example image, a handwritten digit; else it expects ``image.png``.
    """
    secret = ', headers={"X-API-Key": os.environ["GLIMPSE_KEY"]}' if key else ""
    modules = ", ".join(sorted(("base64" if drawn else "pathlib", "json", *["os"] * key, "urllib.request")))
    image = f'base64.b64decode("""\n{SEVEN}\n""")' if drawn else 'pathlib.Path("image.png").read_bytes()'
    return f'''\
import {modules}

image = {image}
request = urllib.request.Request("{address}/v1/classify?confidence=0.99", data=image{secret})
with urllib.request.urlopen(request) as response:
    result = json.load(response)
print(f"{{result['class']}} ({{result['confidence']:.1%}}) after {{len(result['glimpses'])}} glimpses")
'''


def triton(address: str, key: bool, model: str) -> str:
    """A program that runs a model by the Open Inference Protocol.

    Args:
        address: URL of the service.
        key: Whether it needs an API key.
        model: Name of the model.
    """
    host = address.partition("://")[2]
    secret, module = (', headers={"X-API-Key": os.environ["GLIMPSE_KEY"]}', "import os\n\n") if key else ("", "")
    encrypted = ", ssl=True" if address.startswith("https") else ""
    return f'''\
# pip install 'tritonclient[http]'
{module}import numpy as np
import tritonclient.http as v2

client = v2.InferenceServerClient("{host}"{encrypted})
spec = client.get_model_metadata("{model}"{secret})["inputs"][0]
shape = [1, spec["shape"][1], *(60 if side < 0 else side for side in spec["shape"][2:])]
images = v2.InferInput(spec["name"], shape, spec["datatype"])
dtype = {{"UINT8": np.uint8, "FP32": np.float32}}[spec["datatype"]]
images.set_data_from_numpy(np.zeros(shape, dtype))
result = client.infer("{model}", [images]{secret})
print(result.as_numpy("probabilities")[0, -1])
client.close()
'''
