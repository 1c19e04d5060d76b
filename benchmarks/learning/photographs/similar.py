"""Groups of similar photographs, as the experiment on magnetic tiles had them: looser than the product's own.

The product finds the photographs of one tile, some six each, and keeps them in one part. The experiment joined those
whose features of a frozen network point into nearly one direction, so that most tiles lie in several parts: its figures
are higher, and can only be compared with figures under such groups.
"""

import csv
import io
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from glimpse.contract.card import SQUASH
from glimpse.data.folder import labelled_files
from glimpse.data.folder.decoding import Scaling, decode_files
from glimpse.files import write_whole
from glimpse.nn.backbones import backbone
from glimpse.nn.encoders import standardise

NETWORK, SIDE, BATCH = "tf_efficientnet_lite0", 224, 32
THRESHOLD = 0.885
"""Cosine of centred features from which on photographs are joined. Among all defects and a third of the images without,
this makes as many groups (about 530) as the experiment had."""


@torch.no_grad()
def features_of(files: list[Path]) -> Float[Tensor, "images features"]:
    """The mean over the map of a network trained on ImageNet, of each image squashed to 224x224.

    Args:
        files: The images.
    """
    network = backbone(NETWORK, "package").eval()
    assert network.normalisation is not None
    mean, std = (torch.tensor(values) for values in network.normalisation)
    images = decode_files(files, Scaling(SIDE, SIDE, 3, SQUASH)).images
    return torch.cat([network(standardise(batch, mean, std)).mean((2, 3)) for batch in images.split(BATCH)])


def similar_groups(features: Float[Tensor, "images features"], threshold: float = THRESHOLD) -> list[int]:
    """The number of each image's group: those are joined whose centred features have a greater cosine.

    Args:
        features: Of the images.
        threshold: The cosine, in [-1, 1].
    """
    centred = features - features.mean(0)
    directions = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12)
    near: np.ndarray = (directions @ directions.T > threshold).numpy()
    numbers: list[int] = connected_components(csr_array(near), directed=False)[1].tolist()
    return numbers


def write_similar_groups(folder: Path, table: Path) -> int:
    """Write a table of labels with such groups for a folder of photographs.

    Args:
        folder: The photographs.
        table: The CSV file, which ``--data.labels`` takes.

    Returns:
        How many groups there are.
    """
    parts = labelled_files(folder).tree.parts
    listed = [(path, name) for of_class in parts.values() for name, paths in of_class.items() for path in paths]
    numbers = similar_groups(features_of([path for path, _ in listed]))
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(("path", "label", "group"))
    for (path, name), number in zip(listed, numbers, strict=True):
        rows.writerow((path.relative_to(folder).as_posix(), name, number))
    write_whole(table, text.getvalue())
    return len(set(numbers))
