"""The Triton target: a model repository with an exported model, its configuration and its labels.

The configuration describes the model's tensors as onnxruntime finds them in the file, because Triton compares it with
those. No torch.

Sources: Triton's model_config.proto, and the source of its ONNX Runtime backend.
"""

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from glimpse.contract.card import CARD_KEY, ModelCard
from glimpse.contract.seal import SEAL_KEY
from glimpse.contract.tensors import GLIMPSE, INPUT, LOCATION, PROBABILITIES, STATE
from glimpse.export.targets.ownership import DeploymentError, check_noted, check_ours, digest_of, marked, seal_of
from glimpse.export.targets.target import Target
from glimpse.files import draft_folder, put_in_place

MAX_BATCH = 32
"""Images that Triton runs at once by default."""
QUEUE_SIZE = 256
"""Requests that wait in Triton; further ones are rejected at once, so that a client need not wait for a time-out."""
QUEUE_MICROSECONDS = 1_000_000
"""How long a request may wait in Triton before it is rejected; a request may set a shorter time."""

_TYPES = {
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
}
_CONFIG, _LABELS, _FILE = "config.pbtxt", "labels.txt", "model.onnx"
_LABELS_NOTE = f"# SHA-256 of {_LABELS}: "
"""Begins a line of the configuration. The labels can't hold a mark of their own, as each of their lines is a label."""


@dataclass(frozen=True)
class TritonTarget(Target):
    """A model in a Triton model repository, see :func:`write_triton`."""

    kind: ClassVar[str] = "triton"
    place_metavar: ClassVar[str] = "FOLDER"
    summary: ClassVar[str] = "a Triton model repository"

    @staticmethod
    def check_name(name: str) -> None:
        """Reject what :func:`check_model_name` rejects."""
        check_model_name(name)

    def check(self) -> None:
        """Reject what :func:`check_repository` rejects."""
        check_repository(self.place, self.name)

    def deliver(self, model: Path, card: ModelCard) -> Path:
        """Write the model and its configuration, and return the folder of the version that was written."""
        return write_triton(model, card, self.place, self.name, gpu=self.gpu)


def check_model_name(name: str) -> None:
    """Reject a name that Triton does not accept for a model.

    Args:
        name: What the model is to be called: letters, digits, ``.``, ``_`` and ``-``, no more than 63.

    Raises:
        DeploymentError: When the name is not valid.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
        raise DeploymentError(
            f"expected a model name of 1 to 63 letters, digits, '.', '_' and '-' that begins with a letter or a digit, "
            f"got {name!r}; choose another"
        )


def check_repository(folder: Path, name: str) -> None:
    """Reject a place in a model repository that :func:`write_triton` could not write to; nothing is written.

    Args:
        folder: The model repository.
        name: What the model is to be called there.

    Raises:
        DeploymentError: When the name is not valid, the folder can't be made, or a model of that name was not written
            by Glimpse or was edited since.
    """
    check_model_name(name)
    if not folder.is_dir() and (folder.exists() or not folder.parent.is_dir()):
        raise DeploymentError(
            f"expected a folder to hold the model repository, {str(folder)!r} is none and can't be made; "
            "make it first, or choose another"
        )
    home = folder / name
    if not home.exists():
        return
    check_ours(home / _CONFIG)
    if (home / _LABELS).exists():
        noted = re.search(f"^{_LABELS_NOTE}(.*)$", (home / _CONFIG).read_text(encoding="utf-8"), re.MULTILINE)
        check_noted(home / _LABELS, noted.group(1) if noted else "")


def write_triton(
    model: Path,
    card: ModelCard,
    folder: Path,
    name: str,
    *,
    max_batch: int | None = None,
    instances: int = 1,
    gpu: bool = False,
) -> Path:
    """Put a model into a Triton model repository: its file, its configuration, its labels.

    A model that is there already gets a new version, numbered one higher; its older versions stay. Triton serves the
    newest.

    Triton either merges requests into batches or accepts the inputs that have a default, never both: its ONNX Runtime
    backend rejects optional inputs of a model that batches. So an adaptive model, which stops early only when it gets
    a confidence, is by default not batched by Triton; a request may still hold many images. Every other model is
    batched, and its options keep their defaults.

    Args:
        model: The exported file.
        card: Its card.
        folder: The model repository; made if only it is missing.
        name: What the model is called there: letters, digits, ``.``, ``_`` and ``-``, no more than 63.
        max_batch: Images that Triton runs at once; 0 leaves batches to the requests, and gives them the options.
            ``MAX_BATCH``, or 0 for an adaptive model, when left out.
        instances: How many copies of the model run beside each other, on one thread each, at least 1.
        gpu: Whether they run on every GPU, and not on the CPU.

    Returns:
        The folder of the version that was written.

    Raises:
        ContractError: When the file is not sealed, or was changed after it was.
        DeploymentError: When the name or a number is not valid, the file does not match its card, the folder can't be
            made, or a model of that name was not written by Glimpse or was edited since.
    """
    check_repository(folder, name)
    if max_batch is None:
        max_batch = 0 if card.graph == "adaptive" else MAX_BATCH
    if max_batch < 0 or instances < 1:
        raise DeploymentError(
            f"expected a batch of at least 0 and at least 1 instance, got {max_batch} and {instances}; raise them"
        )
    digest = seal_of(model)
    tensors = _Tensors(model, card)
    labels = _labels(card)
    config = marked(_config(card, tensors, name, digest, max_batch, instances, gpu, labels))
    home = folder / name
    if not folder.is_dir():
        folder.mkdir()
    version = 1 + max((int(path.name) for path in home.glob("[1-9]*") if path.name.isdecimal()), default=0)
    with draft_folder(folder) as drafts:
        draft = drafts / name
        (draft / str(version)).mkdir(parents=True)
        shutil.copyfile(model, draft / str(version) / _FILE)
        (draft / _CONFIG).write_text(config, encoding="utf-8")
        if labels:
            (draft / _LABELS).write_text(labels, encoding="utf-8")
        if not home.exists():
            put_in_place(draft, home)
        else:
            # The configuration last: a version that is not described yet is loaded as the one before it was.
            for part in (str(version), _LABELS, _CONFIG):
                if (draft / part).exists():
                    put_in_place(draft / part, home / part)
            if not labels:
                (home / _LABELS).unlink(missing_ok=True)
    return home / str(version)


class _Tensors:
    """The inputs, options and outputs of a file, as onnxruntime and therefore Triton finds them."""

    def __init__(self, model: Path, card: ModelCard) -> None:
        import onnxruntime  # here, because the command line reads the targets' options without it

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(os.fspath(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no parent of their own
            raise DeploymentError(f"onnxruntime can't load {str(model)!r} ({error}); export the model again") from error
        self.inputs = _named(session.get_inputs(), card.inputs, f"the inputs of {str(model)!r}")
        self.options = _named(session.get_overridable_initializers(), card.options, f"the options of {str(model)!r}")
        self.outputs = _named(session.get_outputs(), card.outputs, f"the outputs of {str(model)!r}")


def _named(nodes: Iterable[Any], names: Sequence[str], what: str) -> dict[str, tuple[str, list[int]]]:
    """The type and the dimensions of each tensor that the card names, -1 where they are free."""
    found = {node.name: node for node in nodes}
    if set(found) != set(names):
        raise DeploymentError(f"expected {what} to be {tuple(names)}, as its card says, got {tuple(found)}; {_AGAIN}")
    unknown = sorted({node.type for node in found.values()} - _TYPES.keys())
    if unknown:
        raise DeploymentError(f"expected {what} to be of the types {tuple(_TYPES)}, got {unknown}; {_AGAIN}")
    return {
        name: (_TYPES[found[name].type], [side if isinstance(side, int) else -1 for side in found[name].shape])
        for name in names
    }


def _config(
    card: ModelCard,
    tensors: _Tensors,
    name: str,
    digest: str,
    max_batch: int,
    instances: int,
    gpu: bool,
    labels: str,
) -> str:
    """The model's configuration in protobuf's text form, as Triton's ``ModelConfig``."""
    inputs = [_tensor(key, *tensors.inputs[key], max_batch) for key in card.inputs]
    if not max_batch:
        inputs += [_tensor(key, *tensors.options[key], max_batch, ("optional: true",)) for key in card.options]
    outputs = [
        _tensor(
            key,
            *tensors.outputs[key],
            max_batch,
            (f'label_filename: "{_LABELS}"',) if key == PROBABILITIES and labels else (),
        )
        for key in card.outputs
    ]
    sizes = {
        INPUT: (card.channels, card.height, card.width),
        GLIMPSE: (card.num_scales, card.channels, card.glimpse_size, card.glimpse_size),
        LOCATION: (2,),
        STATE: (card.state_size,),
    }
    warm = "".join(
        f'    inputs {{ key: "{key}" value {{ data_type: {tensors.inputs[key][0]} '
        f"dims: {[*(() if max_batch else (1,)), *sizes[key]]} zero_data: true }} }}\n"
        for key in card.inputs
    )
    return _TEXT.format(
        name=name,
        file=_FILE,
        batching=_BATCHED.format(max_batch=max_batch) if max_batch else _UNBATCHED,
        any_size=_ANY_SIZE if card.any_size and max_batch else "",
        inputs=",\n".join(inputs),
        outputs=",\n".join(outputs),
        queue_microseconds=QUEUE_MICROSECONDS,
        queue_size=QUEUE_SIZE,
        kind="KIND_GPU" if gpu else "KIND_CPU",
        instances=instances,
        warm=warm,
        labels=f"\n{_LABELS_NOTE}{digest_of(labels.encode())}\n" if labels else "",
        seal_key=SEAL_KEY,
        digest=digest,
        card_key=CARD_KEY,
        card=card.to_json().replace("\\", "\\\\").replace('"', '\\"'),
    )


def _tensor(name: str, kind: str, dims: list[int], max_batch: int, more: Sequence[str] = ()) -> str:
    """One input or output; with batches, Triton counts the first dimension on its own."""
    if max_batch:
        if not dims or dims[0] != -1:
            raise DeploymentError(
                f"expected {name!r} to have a free batch to merge requests in, got the dimensions {dims}; "
                "set max_batch to 0"
            )
        dims = dims[1:]
    # One number an image, or one number at all: Triton has no tensors without dimensions.
    reshape = ("reshape { shape: [] }",) if max_batch and not dims else ()
    fields = (f'name: "{name}"', f"data_type: {kind}", f"dims: {dims or [1]}", *reshape, *more)
    return "  { " + " ".join(fields) + " }"


def _labels(card: ModelCard) -> str:
    """The class names, a line each, for a model whose probabilities are one vector of classes an image.

    Triton's classification extension ranks all the numbers of an image and labels each by its index. With several
    glimpses, most indices are not those of classes, so there are no labels; the card lists the classes.
    """
    single = card.graph == "step" or (card.graph == "episode" and card.num_glimpses == 1)
    if not single or any("\n" in name or "\r" in name for name in card.classes):
        return ""
    return "".join(f"{name}\n" for name in card.classes)


_AGAIN = "export the model again with this version of Glimpse"
_TEXT = """\
name: "{name}"
platform: "onnxruntime_onnx"
backend: "onnxruntime"
default_model_filename: "{file}"
version_policy {{ latest {{ num_versions: 1 }} }}

{batching}{any_size}
input [
{inputs}
]
output [
{outputs}
]

# No request waits for others: a free instance takes what is queued, up to the greatest batch, at once. Preferred sizes
# would only split what could run in one batch.
dynamic_batching {{
  max_queue_delay_microseconds: 0
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {queue_microseconds}
    allow_timeout_override: true
    max_queue_size: {queue_size}
  }}
}}

# The model is small: one thread an instance, and more instances for more cores.
instance_group [ {{ kind: {kind} count: {instances} }} ]
parameters {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }}
parameters {{ key: "inter_op_thread_count" value {{ string_value: "1" }} }}

# Ready means ready: the first request finds buffers allocated and kernels chosen.
model_warmup [
  {{
    name: "a black image"
    batch_size: 1
{warm}  }}
]

# For clients: the card contains, among others, the classes in the order of the probabilities.
parameters {{ key: "{seal_key}" value {{ string_value: "{digest}" }} }}
parameters {{ key: "{card_key}" value {{ string_value: "{card}" }} }}
{labels}"""
_BATCHED = """\
# Requests are merged into batches, and the dimensions below are those of one image. Triton's ONNX Runtime backend
# refuses optional inputs then, so the model's options keep their defaults.
max_batch_size: {max_batch}
"""
_UNBATCHED = """\
# A request is run as it comes; the first dimension is its batch. The optional inputs may be left out. A model that
# merges requests could not have them.
max_batch_size: 0
"""
_ANY_SIZE = """\
# Images of any height and width, but requests are merged only with others of the same: give images one size.
"""
