"""ap_gym's image tasks, played by the loop over glimpses: their rules and rewards, our model.

ap_gym (the Active Perception Gym of Schneider et al.) asks for a move and for a prediction at every step, and pays for
the prediction that was made *before* the move. Here each glimpse is paid for the prediction after it, and for the move
that led to it; the sum over an episode is the same.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from ap_gym.envs.image_classification import ImageClassificationVectorEnv
from jaxtyping import Float, Int64
from torch import Tensor

from benchmarks.envs.ap_gym_tasks import Task, registered
from glimpse.models.hard import HardAttention
from glimpse.rollout import Choice, Chooser, Trace, fixed, rollout

AIMS = ("place", "move")
"""What a choice says: a place in the image, (x, y) in [-1, 1], towards which the environment's action then leads as far
as it can; or that action itself, in moves of the greatest length."""
GRID_CELLS = 7
"""Places that the policy chooses from, along each side of the image."""


class Move(NamedTuple):
    """A :class:`glimpse.rollout.Choice`, and the action that is sent to the environment."""

    location: Float[Tensor, "batch 2"]
    """What was chosen, see ``AIMS``."""
    log_prob: Float[Tensor, " batch"]
    entropy: Float[Tensor, " batch"]
    weights: None = None
    prediction: Float[Tensor, "batch classes"] | None = None
    """The belief before the move, logits; None before the first glimpse, to which no move led."""


class Seen(NamedTuple):
    """What the environment showed; its clock is left out."""

    glimpse: Float[Tensor, "batch scales channels size size"]
    """Two channels: the pixels, and the same less their mean over the glimpse."""
    position: Float[Tensor, "batch 2"]
    """Where they were cut, (x, y) in [-1, 1]."""


class Played(NamedTuple):
    """An episode of every sub-environment."""

    trace: Trace
    """What the loop over glimpses saw; its locations are what was chosen, the first of them meaningless."""
    actions: Float[Tensor, "batch time 2"]
    """What the environment was sent; the last is zero."""
    labels: Int64[Tensor, " batch"]
    rewards: Float[Tensor, "batch time"]
    """As the environment paid them: for the move at a time and for the prediction before that move."""
    earned: Float[Tensor, "batch time"]
    """The same, booked with the glimpse that was earned: the move that led to it, and the prediction after it."""


class Episode:
    """Plays one episode of all sub-environments, in lock-step, for the loop over glimpses.

    Args:
        env: The environment.
        aim: What a choice says, one of ``AIMS``.
    """

    def __init__(self, env: ImageClassificationVectorEnv, aim: str) -> None:
        self.env, self.aim = env, aim
        self.sent: list[Tensor] = []
        self.paid: list[tuple[Any, Mapping[str, Any]]] = []

    def sense(self, move: Move) -> Seen:
        """Begin the episode, or make a move."""
        if move.prediction is None:
            observation, _ = self.env.reset()
        else:
            observation = self._step(self._action(move), move.prediction)
        self.position: Tensor = torch.from_numpy(observation["glimpse_pos"])
        return Seen(contrasted(torch.from_numpy(observation["glimpse"]).permute(0, 3, 1, 2)), self.position)

    def end(self, trace: Trace) -> Played:
        """Send the last prediction. The move that is sent with it is zero and has no reward, as no glimpse follows."""
        self._step(torch.zeros_like(self.position), trace.logits[:, -1].detach())
        rewards, details = zip(*self.paid, strict=True)
        losses = np.stack([detail["prediction"]["loss"] for detail in details], 1)
        moves = np.stack([detail["base_reward"] for detail in details], 1)
        earned = np.concatenate([np.zeros_like(moves[:, :1]), moves[:, :-1]], 1) - losses
        return Played(
            trace,
            torch.stack(self.sent, dim=1),
            torch.as_tensor(np.asarray(details[-1]["prediction"]["target"])).long(),
            torch.from_numpy(np.stack(rewards, 1)).float(),
            torch.from_numpy(earned).float(),
        )

    def _action(self, move: Move) -> Tensor:
        """The environment's action: a move in steps of the greatest length, and none longer than that."""
        if self.aim == "move":
            return move.location
        steps = (move.location - self.position) / float(self.env.config.max_step_length)
        within: Tensor = steps / steps.norm(dim=1, keepdim=True).clamp_min(1)
        return within

    def _step(self, action: Tensor, prediction: Tensor) -> Mapping[str, Any]:
        observation, reward, _, _, info = self.env.step({"action": action.numpy(), "prediction": prediction.numpy()})
        self.sent.append(action)
        self.paid.append((reward, info))
        return observation  # type: ignore[no-any-return]


def contrasted(
    pixels: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch scales channels_and_contrast height width"]:
    """A glimpse as the model gets it, of one scale: the pixels, and as further channels the same less their mean.

    In CircleSquare the slow change of brightness over the image is several times greater than that within a glimpse.
    """
    return torch.cat([pixels, pixels - pixels.mean((2, 3), keepdim=True)], dim=1).unsqueeze(1)


def learner(task: Task, hidden: int, seed: int) -> HardAttention:
    """A model of random weights that knows the mean and the spread of what glimpses of the task show.

    It chooses among the places of a grid. A Gaussian's mean may slip past the image's border, where the clamp hides
    its noise, and then nothing calls it back: in some runs the gaze ended in a corner.

    Args:
        task: The task.
        hidden: Length of the encodings and of the outputs of the two cores.
        seed: Fixes the weights.
    """
    config = registered(task.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HardAttention(
            task.fitting.num_classes,
            channels=2,
            glimpse_size=config.sensor_size[0],
            num_scales=1,
            hidden=hidden,
            policy="grid",
            grid_cells=GRID_CELLS,
            gaze_hidden=hidden,
        )
    pixels = torch.from_numpy(task.fitting[np.arange(0, len(task.fitting), max(1, len(task.fitting) // 1000))][0])
    size = config.sensor_size[0]
    windows = pixels.permute(0, 3, 1, 2).unfold(2, size, size).unfold(3, size, size)
    seen = contrasted(windows.flatten(0, 3).unsqueeze(1))
    model.mean.copy_(seen.mean((0, 1, 3, 4)))
    model.std.copy_(seen.std((0, 1, 3, 4)))
    return model


def play(model: HardAttention, env: ImageClassificationVectorEnv, choose: Chooser, aim: str = AIMS[0]) -> Played:
    """Play an episode of every sub-environment: the roll-out with an environment for its sense.

    Args:
        model: The model.
        env: The environment.
        choose: Chooses where to go.
        aim: What a choice says, one of ``AIMS``.
    """
    episode = Episode(env, aim)
    nothing = fixed(torch.zeros(env.num_envs, 2))
    trace = rollout(
        lambda seen, move, state: model(seen.glimpse, seen.position, state),
        episode.sense,
        lambda step, present: Move(*choose(step, Choice(*present[:4]))[:3], prediction=step.logits.detach()),
        Move(*nothing[:3]),
        model.initial_state(env.num_envs),
        env.config.step_limit,
    )
    return episode.end(trace)


def anywhere(batch: int, generator: torch.Generator) -> Chooser:
    """Choose moves evenly out of the action space, the square [-1, 1] x [-1, 1]."""
    return lambda step, present: fixed(2 * torch.rand(batch, 2, generator=generator) - 1)


def nowhere(step: Any, present: Choice) -> Choice:
    """Choose not to move."""
    return fixed(torch.zeros_like(present.location))


@torch.no_grad()
def measure(
    model: HardAttention, env: ImageClassificationVectorEnv, episodes: int, choose: Chooser, aim: str = AIMS[0]
) -> dict[str, Any]:
    """Play, and say how well.

    Args:
        model: The model.
        env: The environment, freshly seeded.
        episodes: How many to play, rounded up to whole batches.
        choose: Chooses where to go.
        aim: What a choice says, one of ``AIMS``.

    Returns:
        Accuracy of the last prediction and its mean over all of an episode, both in [0, 1]; the mean return, as the
        environment pays; the accuracy after each glimpse.
    """
    right, returns = [], []
    for _ in range(math.ceil(episodes / env.num_envs)):
        played = play(model, env, choose, aim)
        right.append(played.trace.logits.argmax(2) == played.labels.unsqueeze(1))
        returns.append(played.rewards.sum(1))
    each = torch.cat(right).float().mean(0)
    return {
        "final": float(each[-1]),
        "mean": float(each.mean()),
        "return": float(torch.cat(returns).mean()),
        "each": [round(float(share), 4) for share in each],
    }
