"""The tasks of ap_gym that are learned here, and what its authors report of them.

ap_gym is the Active Perception Gym of Schneider et al. Its environments are taken as they are registered: glimpses of
5x5 pixels, 16 steps, moves of up to 0.2 in coordinates of [-1, 1], a random place to begin at.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import ap_gym  # noqa: F401  (it registers its environments)
import gymnasium
from ap_gym.envs.image import ImageClassificationDataset
from ap_gym.envs.image_classification import ImageClassificationVectorEnv

from glimpse.data.datasets import SOURCES, Split


@dataclass(frozen=True)
class Task:
    """One of ap_gym's tasks.

    Attributes:
        name: As it is registered, without its version.
        fitting: Images to learn from.
        validation: For choosing the recipe and for the curve.
        held_out: For the figures.
        note: What the three are.
    """

    name: str
    fitting: ImageClassificationDataset
    validation: ImageClassificationDataset
    held_out: ImageClassificationDataset
    note: str


class Images(ImageClassificationDataset):  # type: ignore[misc]
    """Images in memory, as ap_gym wants a data set.

    Args:
        part: The images.
        num_classes: How many classes there are.
    """

    def __init__(self, part: Split, num_classes: int) -> None:
        self.pixels = part.images.permute(0, 2, 3, 1).numpy()
        self.labels = part.labels.numpy()
        self.count = num_classes

    def _get_num_classes(self) -> int:
        return self.count

    def _get_num_channels(self) -> int:
        return int(self.pixels.shape[3])

    def _get_length(self) -> int:
        return len(self.labels)

    def _get_data_point_batch(self, idx: Any) -> tuple[Any, Any]:
        return self.pixels[idx], self.labels[idx]


def circle_square() -> Task:
    """A circle or a square at any of 28x28 places, in a brightness that falls off with the distance to it."""
    images = registered("CircleSquare").dataset
    return Task(
        "CircleSquare",
        images,
        images,
        images,
        "ap_gym has no split here, and its authors report figures on the environment that they train on: the 1,568 "
        "images are all there are. What is new in an evaluation is the place where an episode begins",
    )


def mnist() -> Task:
    """MNIST, the images handed in from memory."""
    source = SOURCES["mnist"](None, False)
    fitting, validation, test = (
        Images(part, len(source.classes)) for part in (source.train, source.validation, source.test)
    )
    return Task(
        "MNIST",
        fitting,
        validation,
        test,
        "the training split less the 5 % held out for the curve and for choosing the recipe; figures on the test split",
    )


TASKS = {"CircleSquare": circle_square, "MNIST": mnist}


def registered(name: str) -> Any:
    """The configuration under which ap_gym registers a task: glimpses of 5x5, 16 steps, moves of up to 0.2."""
    return gymnasium.spec(f"{name}-v0").kwargs["image_perception_config"]


def environment(task: Task, images: ImageClassificationDataset, batch: int, seed: int) -> ImageClassificationVectorEnv:
    """The task's environment, as registered but for where its images come from; its images are drawn without a thread.

    Args:
        task: The task.
        images: Where its images are drawn from, with replacement.
        batch: Sub-environments.
        seed: Fixes the images and the places where episodes begin.
    """
    env = ImageClassificationVectorEnv(batch, replace(registered(task.name), dataset=images, prefetch=False))
    env.reset(seed=seed)
    return env


class Published(NamedTuple):
    """A figure of the study, mean and standard deviation over its runs, shares in [0, 1]."""

    method: str
    env_steps: int
    final: float
    final_std: float
    mean: float
    mean_std: float


SOURCE = (
    "Schneider et al., APPLE: Toward General Active Perception via Reinforcement Learning (ICLR 2026, arXiv "
    "2505.06182): the last rows of train_final.csv and train_avg.csv under data/CircleSquare-v0 of the authors' "
    "repository, github.com/TimSchneider42/apple, commit 4b1d71f; mean +- standard deviation over their runs, measured "
    "on the environment that is trained on. Their README says that the paper's code had a fault that made APPLE worse "
    "on some tasks. No figure for ap_gym's MNIST task was found"
)
PUBLISHED = {
    "CircleSquare": (
        Published("PPO, transformer", 9_989_888, 0.7865, 0.0477, 0.7166, 0.0281),
        Published("PPO, HAM's network", 9_989_888, 0.7200, 0.0384, 0.6835, 0.0465),
        Published("HAM (REINFORCE)", 9_995_680, 0.5181, 0.0696, 0.4915, 0.0451),
        Published("APPLE-CrossQ, LSTM", 999_996, 0.8154, 0.1489, 0.7022, 0.0894),
        Published("APPLE-SAC, LSTM", 999_996, 0.7784, 0.1683, 0.7223, 0.1182),
        Published("APPLE-CrossQ", 997_828, 0.9911, 0.0048, 0.8948, 0.0053),
        Published("APPLE-SAC", 997_828, 0.9822, 0.0139, 0.8791, 0.0132),
        Published("random moves", 999_996, 0.6965, 0.0250, 0.6507, 0.0137),
    )
}
