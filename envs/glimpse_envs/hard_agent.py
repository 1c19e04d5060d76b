"""The hard model's roll-out in an environment: what ``glimpse train --rollout env`` trains with.

It is the library's loop, with an environment in the place of the retina: glimpses and rewards come from there. The
numbers are those of the roll-out without one.
"""

from typing import Any

import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from glimpse.contract.episode import EpisodeRule
from glimpse.nn.retina import Retina
from glimpse.rollout import Choice, Chooser, Trace, fixed, rollout
from glimpse_envs.classification.actions import Actions, Move
from glimpse_envs.classification.core import ClassificationCore, Classifier
from glimpse_envs.classification.scenes import Batch, Sense
from glimpse_envs.classification.tensor import TensorEnv


class BatchScenes:
    """The images of one batch, each for one episode.

    Args:
        images: The images.
        labels: Their classes.
        num_classes: How many classes there are.
    """

    num_targets = 1

    def __init__(
        self, images: UInt8[Tensor, "batch channels height width"], labels: Int64[Tensor, " batch"], num_classes: int
    ) -> None:
        self._images, self._labels = images, labels.unsqueeze(1)
        self.classes = tuple(str(number) for number in range(num_classes))
        channels, height, width = images.shape[1:]
        self.image_shape = (channels, height, width)

    def __len__(self) -> int:
        return len(self._images)

    def deal(self, places: Int64[Tensor, " batch"], generator: torch.Generator) -> Batch:
        """Deal the images at the given places."""
        return Batch(self._images[places], self._labels[places])

    def images(
        self, scene: UInt8[Tensor, "batch channels height width"]
    ) -> UInt8[Tensor, "batch channels height width"]:
        """The images themselves."""
        return scene

    def sensor(self, retina: Retina) -> Sense:
        """The retina itself."""
        return retina


def look_in_environment(
    model: Classifier,
    retina: Retina,
    images: UInt8[Tensor, "batch channels height width"],
    labels: Int64[Tensor, " batch"],
    num_classes: int,
    rule: EpisodeRule,
    choose: Chooser,
    first_location: Float[Tensor, "batch 2"] | None = None,
) -> Trace:
    """Run the hard model over images as an agent in an environment; its logits are the scores that it tells.

    Args:
        model: The model.
        retina: Its retina.
        images: The images.
        labels: Their classes.
        num_classes: How many classes there are.
        rule: Budget and reward.
        choose: Chooses the next location.
        first_location: Where to look first, (x, y) in [-1, 1]; the image's centre when left out.

    Returns:
        The trace of the roll-out, with the rewards that the environment gave.
    """
    actions = Actions("box", num_classes, grid_cells=1, relative=False, largest_step=1.0, device=images.device)
    scenes = BatchScenes(images, labels, num_classes)
    looking = ClassificationCore(scenes, retina, rule, actions, device=images.device)
    environment = TensorEnv(looking, len(images), AutoresetMode.DISABLED)
    seen = environment.reset(torch.arange(len(images), device=images.device), first_location)
    first = fixed(seen.location)
    rewards: list[Tensor] = []

    def act(logits: Float[Tensor, "batch classes"], location: Float[Tensor, "batch 2"]) -> None:
        nonlocal seen
        told = logits.detach().float()
        move = Move(location, told.argmax(1), told.log_softmax(1))
        seen, reward, _, _ = environment.advance(move)
        rewards.append(reward)

    def choose_and_act(step: Any, present: Choice) -> Choice:
        choice: Choice = choose(step, present)
        act(step.logits, choice.location)
        return choice

    trace = rollout(
        lambda glimpse, choice, state: model(glimpse, choice.location, state),
        lambda choice: seen.glimpse,
        choose_and_act,
        first,
        model.initial_state(len(images)),
        rule.num_glimpses,
    )
    act(trace.logits[:, -1], trace.locations[:, -1])
    return trace._replace(rewards=torch.stack(rewards, dim=1))
