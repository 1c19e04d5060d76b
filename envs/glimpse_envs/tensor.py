"""The environment for trainers: tensors in, tensors out, on any device, without a copy and without a space."""

from typing import NamedTuple

import gymnasium
import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from glimpse_envs.actions import Move
from glimpse_envs.looking import Looking, Observation, State, renewed, taken


class Last(NamedTuple):
    """What was true when episodes ended: a row for every environment, which means nothing where an episode goes on."""

    observation: Observation
    """What the agents saw last."""
    scene: Tensor
    """What they looked at; where canvases are drawn anew, those of new episodes have taken its place by now."""
    labels: Int64[Tensor, "batch targets"]
    """The true classes."""
    right: Float[Tensor, " batch"]
    """Targets that were told right."""
    glimpses: Int64[Tensor, " batch"]
    """Glimpses taken."""


class Transition(NamedTuple):
    """What a step leads to, in all environments."""

    observation: Observation
    """What each agent sees now; under SAME_STEP the first glimpse of a new episode where the old one has ended."""
    reward: Float[Tensor, " batch"]
    terminated: Bool[Tensor, " batch"]
    last: Last | None
    """Of the episodes that this step ended; None when there are none."""


class TensorEnv:
    """A batch of episodes that are begun anew as they end.

    Attributes:
        looking: The core: images, retina, rule and actions.
        state: The episodes.

    Args:
        looking: The core.
        num_envs: How many episodes run side by side.
        autoreset_mode: What follows the end of an episode: SAME_STEP, a new one at once; NEXT_STEP, a new one with the
            next step, whose action is passed over; DISABLED, nothing until :meth:`reset`.

    Raises:
        ValueError: When there is no environment.
    """

    def __init__(
        self, looking: Looking, num_envs: int, autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"expected at least 1 environment, got num_envs={num_envs}; raise it")
        self.looking = looking
        self.num_envs = num_envs
        self.autoreset_mode = autoreset_mode
        self.state: State | None = None
        self._seen: Observation | None = None
        self._generator = torch.Generator(looking.device)
        self._generator.seed()
        self._ended: Bool[Tensor, " batch"] | None = None

    def seed(self, seed: int) -> None:
        """Fix all that is random from here on."""
        self._generator.manual_seed(seed)

    def reset(
        self,
        images: Int64[Tensor, " rows"] | None = None,
        first: Float[Tensor, "rows 2"] | None = None,
        rows: Int64[Tensor, " rows"] | None = None,
    ) -> Observation:
        """Begin new episodes.

        Args:
            images: Numbers of the images; chosen at random when left out.
            first: Where to look first, (x, y) in [-1, 1]; as the task says when left out.
            rows: Which environments; all of them when left out.
        """
        if self.state is None or self._ended is None or rows is None:
            self.state = self.looking.begin(self.num_envs, self._generator, images, first)
            self._ended = torch.zeros(self.num_envs, dtype=torch.bool, device=self.looking.device)
        else:
            fresh = self.looking.begin(len(rows), self._generator, images, first)
            self.state = renewed(self.state, rows, fresh)
            self._ended = self._ended.index_fill(0, rows, False)
        self._seen = self.looking.observe(self.state)
        return self._seen

    def step(self, action: Shaped[Tensor, "batch numbers"]) -> Transition:
        """Act in all environments.

        Args:
            action: Members of the action space, one a row.

        Raises:
            gymnasium.error.ResetNeeded: Before a reset, or after an end where nothing begins anew by itself.
            gymnasium.error.InvalidAction: On the CPU, when whole numbers are outside the space.
        """
        before = self.present()
        try:
            move = self.looking.actions.move(action, before.location)
        except IndexError as error:
            raise self.looking.actions.wrong(action.numpy()) from error
        return self._advance(move)

    def advance(self, move: Move) -> Transition:
        """Act by what actions mean, in place of the actions themselves; raises as :meth:`step` does."""
        return self._advance(move._replace(location=move.location.clone()))

    def _advance(self, move: Move) -> Transition:
        before = self.present()
        state, reward, terminated, right = self.looking.step(before, move)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and self._ended is not None:
            rows = self._ended.nonzero().squeeze(1)
            if len(rows):
                state = renewed(state, rows, self.looking.begin(len(rows), self._generator))
            reward.masked_fill_(self._ended, 0.0)
            terminated = terminated & ~self._ended
        rows = terminated.nonzero().squeeze(1)
        last = None
        if len(rows):
            last = self._last(before, state, right)
            if self.autoreset_mode is AutoresetMode.SAME_STEP:
                state = renewed(state, rows, self.looking.begin(len(rows), self._generator))
            elif self.looking.actions.mode != "location":
                # An answer ended them: they see what they saw.
                kept = taken((before.location, before.taken), rows)
                location, spent = renewed((state.location, state.taken), rows, kept)
                state = state._replace(location=location, taken=spent)
        self.state, self._ended, self._seen = state, terminated, self.looking.observe(state)
        return Transition(self._seen, reward, terminated, last)

    def _last(self, before: State, state: State, right: Float[Tensor, " batch"]) -> Last:
        labels = before.labels
        if self.looking.actions.mode == "location" or self._seen is None:
            return Last(self.looking.observe(state), before.scene, labels, right, state.taken)
        # An answer ended them, and nothing new was seen.
        seen = self._seen
        if state.told is not None:
            seen = seen._replace(read=(state.told / labels.shape[1]).unsqueeze(1))
        return Last(seen, before.scene, labels, right, before.taken)

    def present(self) -> State:
        """The episodes as they are.

        Raises:
            gymnasium.error.ResetNeeded: As :meth:`step` does.
        """
        if self.state is None:
            raise gymnasium.error.ResetNeeded("expected a reset before the first step, got none; call reset first")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended is not None and self._ended.any():
            which = ", ".join(map(str, self._ended.nonzero().flatten().tolist()[:8]))
            raise gymnasium.error.ResetNeeded(
                f"expected a reset of the environments whose episode has ended, got a step; they are {which}; call "
                "reset(options={'reset_mask': terminated})"
            )
        return self.state
