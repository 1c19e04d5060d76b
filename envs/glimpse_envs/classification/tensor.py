"""The environment for trainers: tensors in, tensors out, on any device, without a copy and without a space."""

from typing import Any, NamedTuple

import gymnasium
import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from glimpse_envs.classification.actions import Move
from glimpse_envs.classification.core import ClassificationCore, Observation, State, renewed, taken
from glimpse_envs.classification.task import Task


class Last(NamedTuple):
    """Episodes that have just ended, one a row."""

    rows: Int64[Tensor, " ended"]
    """Which environments they were in."""
    observation: Observation
    """What their agents saw last."""
    scene: Tensor
    """What they looked at."""
    labels: Int64[Tensor, "ended targets"]
    """The true classes."""
    right: Float[Tensor, " ended"]
    """Targets that were told right."""
    glimpses: Int64[Tensor, " ended"]
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

    ``TensorEnv.of("Glimpse/ClutteredMNIST-v0", num_envs=1024, device="cuda")`` makes it. :meth:`reset` and :meth:`step`
    hand out tensors that are its own: nothing is copied, so change none of them in place. Where episodes end, the
    transition has what was true of them last.

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
        self, looking: ClassificationCore, num_envs: int, autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"expected at least 1 environment, got num_envs={num_envs}; raise it")
        self.looking = looking
        self.num_envs = num_envs
        self.autoreset_mode = autoreset_mode
        self.state: State | None = None
        self._generator = torch.Generator(looking.device)
        self._generator.seed()
        self._ended: Bool[Tensor, " batch"] | None = None

    @classmethod
    def of(cls, env_id: str, num_envs: int, device: torch.device | str = "cpu", **options: Any) -> "TensorEnv":
        """Make the tensor form of an environment that Gymnasium knows.

        Args:
            env_id: Of the environment, such as ``Glimpse/ClutteredMNIST-v0``.
            num_envs: How many episodes run side by side.
            device: Where everything is.
            options: Arguments of the environment that are to be others than those of its id.

        Raises:
            TaskError: When an option is unknown, out of its range, or does not go with another.
            DataError: When the data are not there.
        """
        known = gymnasium.spec(env_id).kwargs
        return cls(Task.of(**{**known, **options}).looking(device), num_envs)

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

        Raises:
            gymnasium.error.ResetNeeded: When only some begin anew, and none has begun yet.
        """
        if rows is not None and self.state is None:
            raise gymnasium.error.ResetNeeded(
                "expected a reset of all environments before one of some of them, got none; leave the rows out"
            )
        if self.state is None or self._ended is None or rows is None:
            self.state = self.looking.begin(self.num_envs, self._generator, images, first)
            self._ended = torch.zeros(self.num_envs, dtype=torch.bool, device=self.looking.device)
        else:
            fresh = self.looking.begin(len(rows), self._generator, images, first)
            self.state = renewed(self.state, rows, fresh)
            self._ended = self._ended.index_fill(0, rows, False)
        return self.looking.observe(self.state)

    def step(self, action: Shaped[Tensor, "batch numbers"]) -> Transition:
        """Act in all environments.

        Args:
            action: Members of the action space, one a row.

        Raises:
            gymnasium.error.ResetNeeded: Before a reset, or after an end where nothing begins anew by itself.
            gymnasium.error.InvalidAction: On the CPU, when whole numbers are outside the space.
        """
        before = self.present()
        return self._advance(before, self.looking.actions.move(action, before.location))

    def advance(self, move: Move) -> Transition:
        """Act by what actions mean, in place of the actions themselves; raises as :meth:`step` does.

        Args:
            move: Locations beyond the image's edge are moved to it.
        """
        return self._advance(self.present(), move._replace(location=move.location.clamp(-1.0, 1.0)))

    def _advance(self, before: State, move: Move) -> Transition:
        state, reward, terminated, right = self.looking.step(before, move)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and self._ended is not None:
            rows = self._ended.nonzero().squeeze(1)
            if rows.numel():
                state = self._with(state, rows, self._fresh(rows))
            reward = reward.masked_fill(self._ended, 0.0)
            terminated = terminated & ~self._ended
        rows = terminated.nonzero().squeeze(1)
        last = None
        if rows.numel():
            closed = self._only(self.looking.closed(before, state), rows)
            seen = self.looking.observe(closed)
            last = Last(rows, seen, closed.scene, closed.labels, right.index_select(0, rows), closed.taken)
            at_once = self.autoreset_mode is AutoresetMode.SAME_STEP
            state = self._with(state, rows, self._fresh(rows) if at_once else closed)
        self.state, self._ended = state, terminated
        return Transition(self.looking.observe(state), reward, terminated, last)

    def _fresh(self, rows: Int64[Tensor, " rows"]) -> State:
        """New episodes for the given rows."""
        return self.looking.begin(rows.numel(), self._generator)

    def _with(self, state: State, rows: Int64[Tensor, " rows"], new: State) -> State:
        """A state with others in the given rows; where these are all, there is nothing to keep."""
        mixed: State = new if rows.numel() == self.num_envs else renewed(state, rows, new)
        return mixed

    def _only(self, state: State, rows: Int64[Tensor, " rows"]) -> State:
        """The given rows of a state."""
        only: State = state if rows.numel() == self.num_envs else taken(state, rows)
        return only

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
