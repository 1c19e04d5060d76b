"""What an exported model promises: its card, and the names of its tensors. Standard library only.

An ONNX file written by Glimpse carries its card as JSON under the metadata key ``glimpse.card``. The runtime refuses a
file without one, because nothing else in the file says what its numbers mean.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

CARD_KEY = "glimpse.card"
SCHEMA_VERSION = 2

INPUT = "images"
"""uint8 (batch, channels, height, width), RGB or grey, 0 to 255, not normalised."""
LOGITS = "logits"
"""float32 (batch, time, classes): the belief after each glimpse, before the softmax."""
PROBABILITIES = "probabilities"
"""float32 (batch, time, classes): the softmax of the logits."""
LOCATIONS = "locations"
"""float32 (batch, time, 2): each fixation, (x, y) in [-1, 1]; the mean location where attention is spread out."""
BOXES = "boxes"
"""float32 (batch, time, scales, 4): each glimpse's windows, pixels, (left, top, right, bottom), finest scale first. Of
models that look through a retina."""
MAPS = "maps"
"""float32 (batch, time, map_height, map_width): each glimpse's attention weights over equal cells of the image, which
sum to one. Of models whose attention is spread out."""


class ContractError(ValueError):
    """A model file that does not say what it is, or says something this version can't read."""


@dataclass(frozen=True)
class ModelCard:
    """What a reader of an exported model needs to know to use it.

    Attributes:
        model: The family of the model, such as ``hard`` or ``soft``.
        classes: The class names, in the order of the logits.
        channels: Channels of the input image: 1 (grey) or 3 (RGB).
        height: Height in pixels of the images that it was trained on.
        width: Width in pixels of the images that it was trained on.
        size_policy: What to do with an image of another size: ``fit`` scales it, keeping its proportions, and centres
            it on black.
        num_glimpses: Glimpses in an episode; 1 for a model that takes the image in at once.
        glimpse_size: Side of a glimpse in pixels, the same at every scale; None for a model without a retina.
        num_scales: Windows in a glimpse; None likewise.
        zoom: How many times wider each window is than the one before it; None likewise.
        has_maps: Whether it answers with attention maps.
        any_size: Whether the graph takes images of any height and width.
        data: The data set and the canvas that it was trained on, in words.
        recipe: The arguments that made the model, as JSON values.
        test_error: Share of test images that the model gets wrong, in [0, 1]; None where nobody measured it.
        versions: The versions of what made the file.
        schema_version: The version of this card's form.
    """

    model: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    size_policy: str
    num_glimpses: int
    glimpse_size: int | None
    num_scales: int | None
    zoom: int | None
    has_maps: bool
    any_size: bool
    data: str
    recipe: dict[str, Any]
    test_error: float | None
    versions: dict[str, str]
    schema_version: int = SCHEMA_VERSION

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in order."""
        boxes = () if self.glimpse_size is None else (BOXES,)
        return (LOGITS, PROBABILITIES, LOCATIONS, *boxes, *(MAPS,) * self.has_maps)

    def to_json(self) -> str:
        """Write the card as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """Read a card.

        Raises:
            ContractError: When the text is no card, a card of another schema version, or one with a value of
                another type than its entry's.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ContractError(f"the model's card is no valid JSON ({error}); export the model again") from error
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != SCHEMA_VERSION:
            raise ContractError(
                f"expected a model card of schema version {SCHEMA_VERSION}, got {version!r}; "
                "export the model again with this version of Glimpse"
            )
        missing = sorted({field.name for field in fields(cls)} - values.keys())
        unknown = sorted(values.keys() - {field.name for field in fields(cls)})
        if missing or unknown:
            raise ContractError(
                f"the model's card lacks {missing} and has unknown entries {unknown}; "
                "export the model again with this version of Glimpse"
            )
        for name, (expected, types) in _ENTRIES.items():
            value = values[name]
            if type(value) not in types or (name == "classes" and not all(isinstance(entry, str) for entry in value)):
                raise ContractError(
                    f"the model's card should say {expected} under {name!r}, got {json.dumps(value)[:60]}; "
                    "export the model again with this version of Glimpse"
                )
        return cls(**{**values, "classes": tuple(values["classes"])})


_TEXT, _WHOLE, _OBJECT = ("a text", (str,)), ("a whole number", (int,)), ("an object", (dict,))
_WHOLE_OR_NULL, _TRUTH = ("a whole number or null", (int, type(None))), ("true or false", (bool,))
_ENTRIES: dict[str, tuple[str, tuple[type, ...]]] = {
    "model": _TEXT,
    "classes": ("a list of names", (list,)),
    "channels": _WHOLE,
    "height": _WHOLE,
    "width": _WHOLE,
    "size_policy": _TEXT,
    "num_glimpses": _WHOLE,
    "glimpse_size": _WHOLE_OR_NULL,
    "num_scales": _WHOLE_OR_NULL,
    "zoom": _WHOLE_OR_NULL,
    "has_maps": _TRUTH,
    "any_size": _TRUTH,
    "data": _TEXT,
    "recipe": _OBJECT,
    "test_error": ("a number or null", (int, float, type(None))),
    "versions": _OBJECT,
}
"""What each entry of a card holds, in words and as JSON's types."""
