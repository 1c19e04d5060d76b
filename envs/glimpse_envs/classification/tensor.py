"""The environment with tensors as actions and observations, on any device, without copies: for trainers."""

from typing import Any, NamedTuple

import gymnasium
import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from glimpse_envs.classification.actions import Move
from glimpse_envs.classification.core import ClassificationCore, EpisodeState, Observation, replace_rows, select_rows
from glimpse_envs.classification.task import Task


class FinalStep(NamedTuple):
    """The final results of the episodes that ended in a step, one in each row."""

    rows: Int64[Tensor, " ended"]
    """Indices of the environments."""
    observation: Observation
    """The final observations."""
    scene: Tensor
    """The scenes, see :mod:`glimpse_envs.classification.scenes`."""
    labels: Int64[Tensor, "ended targets"]
    """The true classes."""
    num_correct: Float[Tensor, " ended"]
    """Targets that were classified correctly."""
    glimpses_taken: Int64[Tensor, " ended"]
    """Glimpses taken, the first one included."""


class Transition(NamedTuple):
    """The result of a step in all environments."""

    observation: Observation
    """The next observations; with SAME_STEP, the first of the new episode where an episode has ended."""
    reward: Float[Tensor, " batch"]
    terminated: Bool[Tensor, " batch"]
    final: FinalStep | None
    """The results of the episodes that this step has ended; None if there are none."""


class TensorEnv:
    """A batch of environments with tensors as actions and observations.

    Create it with ``TensorEnv.of("Glimpse/ClutteredMNIST-v0", num_envs=1024, device="cuda")``. :meth:`reset` and
    :meth:`step` return the environment's own tensors without copying them: do not change them in place. The transition
    contains the final results of the episodes that ended.

    Attributes:
        core: Images, retina, episode rule and actions.
        state: The state of the episodes; None before the first reset.

    Args:
        core: Images, retina, episode rule and actions.
        num_envs: Number of environments.
        autoreset_mode: What happens when an episode ends. SAME_STEP: the next one begins in the same step. NEXT_STEP:
            it begins in the next step, whose action is ignored. DISABLED: the caller calls :meth:`reset`.

    Raises:
        ValueError: When ``num_envs`` is less than 1.
    """

    def __init__(
        self, core: ClassificationCore, num_envs: int, autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"expected at least 1 environment, got num_envs={num_envs}; raise it")
        self.core = core
        self.num_envs = num_envs
        self.autoreset_mode = autoreset_mode
        self.state: EpisodeState | None = None
        self._generator = torch.Generator(core.device)
        self._generator.seed()
        self._ended: Bool[Tensor, " batch"] | None = None

    @classmethod
    def of(cls, env_id: str, num_envs: int, device: torch.device | str = "cpu", **options: Any) -> "TensorEnv":
        """Create the tensor environment of an id that is registered with Gymnasium.

        Args:
            env_id: Id of the environment, such as ``Glimpse/ClutteredMNIST-v0``.
            num_envs: Number of environments.
            device: Device of all tensors.
            options: Arguments that replace those of the id.

        Raises:
            TaskError: When an option is unknown, out of its range, or incompatible with another one.
            DataError: When the data set is not found.
        """
        known = gymnasium.spec(env_id).kwargs
        return cls(Task.of(**{**known, **options}).core(device), num_envs)

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
            images: Indices of the images; drawn at random by default.
            first: First fixations, (x, y) in [-1, 1]; by default as the task's ``first_location`` states.
            rows: Indices of the environments to reset; all by default.

        Raises:
            gymnasium.error.ResetNeeded: When only some environments are reset before the first reset of all.
        """
        if rows is not None and self.state is None:
            raise gymnasium.error.ResetNeeded(
                "expected a reset of all environments before one of some of them, got none; leave the rows out"
            )
        if self.state is None or self._ended is None or rows is None:
            self.state = self.core.reset(self.num_envs, self._generator, images, first)
            self._ended = torch.zeros(self.num_envs, dtype=torch.bool, device=self.core.device)
        else:
            fresh = self.core.reset(len(rows), self._generator, images, first)
            self.state = replace_rows(self.state, rows, fresh)
            self._ended = self._ended.index_fill(0, rows, False)
        return self.core.observe(self.state)

    def step(self, action: Shaped[Tensor, "batch numbers"]) -> Transition:
        """Take one step in all environments.

        Args:
            action: Elements of the action space, one in each row.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset, and after the end of an episode if autoreset is
            disabled. gymnasium.error.InvalidAction: On the CPU, when whole numbers are outside the space.
        """
        before = self.current_state()
        return self._advance(before, self.core.actions.decode(action, before.location))

    def advance(self, move: Move) -> Transition:
        """Take one step with decoded actions; raises the errors of :meth:`step`.

        Args:
            move: Locations outside the image are moved to its edge.
        """
        return self._advance(self.current_state(), move._replace(location=move.location.clamp(-1.0, 1.0)))

    def _advance(self, before: EpisodeState, move: Move) -> Transition:
        state, reward, terminated, num_correct = self.core.step(before, move)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and self._ended is not None:
            rows = self._ended.nonzero().squeeze(1)
            if rows.numel():
                state = self._replace(state, rows, self._new_episodes(rows))
            reward = reward.masked_fill(self._ended, 0.0)
            terminated = terminated & ~self._ended
        rows = terminated.nonzero().squeeze(1)
        final = None
        if rows.numel():
            ended = self._select(self.core.final_state(before, state), rows)
            final = FinalStep(
                rows,
                self.core.observe(ended),
                ended.scene,
                ended.labels,
                num_correct.index_select(0, rows),
                ended.glimpses_taken,
            )
            at_once = self.autoreset_mode is AutoresetMode.SAME_STEP
            state = self._replace(state, rows, self._new_episodes(rows) if at_once else ended)
        self.state, self._ended = state, terminated
        return Transition(self.core.observe(state), reward, terminated, final)

    def _new_episodes(self, rows: Int64[Tensor, " rows"]) -> EpisodeState:
        """The initial state of new episodes for the given rows."""
        return self.core.reset(rows.numel(), self._generator)

    def _replace(self, state: EpisodeState, rows: Int64[Tensor, " rows"], new: EpisodeState) -> EpisodeState:
        """Replace the given rows of a state; if they are all rows, return the new ones."""
        replaced: EpisodeState = new if rows.numel() == self.num_envs else replace_rows(state, rows, new)
        return replaced

    def _select(self, state: EpisodeState, rows: Int64[Tensor, " rows"]) -> EpisodeState:
        """Select the given rows of a state."""
        selected: EpisodeState = state if rows.numel() == self.num_envs else select_rows(state, rows)
        return selected

    def current_state(self) -> EpisodeState:
        """The state of the episodes, after a check that a step may follow.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset, and after the end of an episode if autoreset is
            disabled.
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
