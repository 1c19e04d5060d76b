"""The rollout of a hard-attention model in an environment, for ``glimpse train --rollout env``.

It uses the loop of :mod:`glimpse.rollout`, but the glimpses and the rewards come from an environment. The results equal
those of the rollout without an environment.
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
from glimpse_envs.classification.scenes import ImageScenes, SceneBatch
from glimpse_envs.classification.tensor import TensorEnv


class BatchScenes(ImageScenes):
    """The images of one training batch, one for each episode.

    Args:
        images: The images.
        labels: Their classes.
        num_classes: Number of classes.
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

    def fetch(self, indices: Int64[Tensor, " batch"], generator: torch.Generator) -> SceneBatch:
        """Return images and labels at the given indices."""
        return SceneBatch(self._images[indices], self._labels[indices])


def rollout_in_environment(
    model: Classifier,
    retina: Retina,
    images: UInt8[Tensor, "batch channels height width"],
    labels: Int64[Tensor, " batch"],
    num_classes: int,
    rule: EpisodeRule,
    choose: Chooser,
    first_location: Float[Tensor, "batch 2"] | None = None,
) -> Trace:
    """Run a hard-attention model as an agent in an environment; its logits are the class scores of its actions.

    Args:
        model: The model.
        retina: Its retina.
        images: The images.
        labels: Their classes.
        num_classes: Number of classes.
        rule: Glimpse budget and reward.
        choose: Chooses the next location.
        first_location: First fixations, (x, y) in [-1, 1]; by default the centre.

    Returns:
        The trace of the rollout, with the rewards of the environment.
    """
    actions = Actions("box", num_classes, grid_cells=1, relative=False, largest_step=1.0, device=images.device)
    scenes = BatchScenes(images, labels, num_classes)
    core = ClassificationCore(scenes, retina, rule, actions, device=images.device)
    environment = TensorEnv(core, len(images), AutoresetMode.DISABLED)
    observation = environment.reset(torch.arange(len(images), device=images.device), first_location)
    first = fixed(observation.location)
    rewards: list[Tensor] = []

    def act(logits: Float[Tensor, "batch classes"], location: Float[Tensor, "batch 2"]) -> None:
        nonlocal observation
        scores = logits.detach().float()
        move = Move(location, scores.argmax(1), scores.log_softmax(1))
        observation, reward, _, _ = environment.advance(move)
        rewards.append(reward)

    def choose_and_act(step: Any, present: Choice) -> Choice:
        choice: Choice = choose(step, present)
        act(step.logits, choice.location)
        return choice

    trace = rollout(
        lambda glimpse, choice, state: model(glimpse, choice.location, state),
        lambda choice: observation.glimpse,
        choose_and_act,
        first,
        model.initial_state(len(images)),
        rule.num_glimpses,
    )
    act(trace.logits[:, -1], trace.locations[:, -1])
    return trace._replace(rewards=torch.stack(rewards, dim=1))
