"""The transition function of the classification environments: batched, and without state of its own.

:class:`ClassificationCore` takes the state of a batch of episodes and returns the next one. It uses the retina and the
episode rule of the library, so that an agent gets the same glimpses and rewards here as in :mod:`glimpse.rollout`.
"""

import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from glimpse.contract.episode import EpisodeRule
from glimpse.nn.retina import Retina
from glimpse_envs.classification.actions import Actions, Move
from glimpse_envs.classification.scenes import Scenes, random_indices, random_locations


@runtime_checkable
class Classifier(Protocol):
    """Classifies the glimpses of an agent in ``location`` mode, one at a time; ``HardAttention`` is one."""

    def initial_state(self, batch: int) -> Any:
        """The recurrent state before the first glimpse.

        A tensor or a (nested) tuple of tensors, each with the batch along its first axis.
        """
        ...

    def __call__(self, glimpse: Tensor, location: Tensor, state: Any) -> Any:
        """Process one glimpse; the result has ``logits`` (batch, classes) and the next ``state``."""
        ...


class EpisodeState(NamedTuple):
    """The state of a batch of episodes, one in each row."""

    scene: Tensor
    """The scenes, see :mod:`glimpse_envs.classification.scenes`."""
    labels: Int64[Tensor, "batch targets"]
    """The true classes."""
    location: Float[Tensor, "batch 2"]
    """The current fixation, (x, y) in [-1, 1]."""
    glimpses_taken: Int64[Tensor, " batch"]
    """Glimpses taken so far, the current one included."""
    num_classified: Int64[Tensor, " batch"] | None = None
    """Targets that have been classified, correctly or not; None if an image has one target."""
    num_correct: Float[Tensor, " batch"] | None = None
    """Targets that have been classified correctly; None if an image has one target."""
    log_probability: Float[Tensor, " batch"] | None = None
    """Log-probability of the true class in the latest prediction, nats; None if there are no probabilities."""
    logits: Float[Tensor, "batch classes"] | None = None
    """The classifier's latest class scores, before the softmax; None without a classifier."""
    classifier_state: Any = None
    """The recurrent state of the classifier; None without a classifier."""


class Observation(NamedTuple):
    """What an agent observes."""

    glimpse: Float[Tensor, "batch scales channels size size"]
    """Pixels in [0, 1], finest scale first."""
    location: Float[Tensor, "batch 2"]
    """The fixation, the glimpse's centre, (x, y) in [-1, 1]."""
    time: Float[Tensor, "batch 1"]
    """Fraction of the glimpse budget that has been used, in [0, 1]."""
    read: Float[Tensor, "batch 1"] | None = None
    """Fraction of the targets that have been classified, in [0, 1]; None if an image has one target."""


class Outcome(NamedTuple):
    """The result of a step."""

    state: EpisodeState
    """The next state; undefined for an episode that an answer has ended, see :meth:`ClassificationCore.final_state`."""
    reward: Float[Tensor, " batch"]
    terminated: Bool[Tensor, " batch"]
    num_correct: Float[Tensor, " batch"]
    """Targets classified correctly so far, by answers that count."""


class ClassificationCore:
    """Batched image classification by glimpses: initial states, transitions, observations and rewards.

    Args:
        scenes: The images.
        retina: Takes the glimpses.
        rule: Glimpse budget, reward and cost of a glimpse.
        actions: The action mode.
        first_location: ``centre`` or ``random``.
        classifier: Classifies the glimpses in ``location`` mode; without one there is no reward in that mode.
        device: Device of all tensors.
    """

    def __init__(
        self,
        scenes: Scenes,
        retina: Retina,
        rule: EpisodeRule,
        actions: Actions,
        first_location: str = "centre",
        classifier: Classifier | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.scenes = scenes
        self.retina = retina
        self.rule = rule
        self.actions = actions
        self.classifier = classifier
        self.device = torch.device(device)
        self.num_classes = len(scenes.classes)
        self._random_first_location = first_location == "random"
        self._sensor = scenes.sensor(retina)
        self._targets = scenes.num_targets
        self._glimpses_per_target = rule.num_glimpses // self._targets
        self._glimpse_share = 1.0 / rule.num_glimpses
        self._uniform_log_probability = -math.log(self.num_classes)

    def reset(
        self,
        batch: int,
        generator: torch.Generator,
        images: Int64[Tensor, " batch"] | None = None,
        first: Float[Tensor, "batch 2"] | None = None,
    ) -> EpisodeState:
        """The initial state of new episodes, in which the first glimpse has been taken.

        Args:
            batch: Number of episodes.
            generator: Source of randomness.
            images: Indices of the images; drawn at random by default.
            first: First fixations, (x, y) in [-1, 1]; by default the centre or random locations, as ``first_location``
                states.
        """
        if images is None:
            images = random_indices(len(self.scenes), batch, generator, self.device)
        if first is None and self._random_first_location:
            first = random_locations(batch, generator, self.device)
        if first is None:
            first = torch.zeros(batch, 2, device=self.device)
        scene, labels = self.scenes.fetch(images, generator)
        state = EpisodeState(scene, labels, first, torch.ones(batch, dtype=torch.long, device=self.device))
        if self._targets > 1:
            none = torch.zeros(batch, device=self.device)
            state = state._replace(num_classified=none.long(), num_correct=none)
        if self.actions.mode == "box":
            state = state._replace(
                log_probability=torch.full((batch,), self._uniform_log_probability, device=self.device)
            )
        if self.classifier is not None:
            state, _ = self._classify(
                state._replace(classifier_state=self.classifier.initial_state(batch)), self.classifier
            )
        return state

    def observe(self, state: EpisodeState) -> Observation:
        """The observations in a state."""
        return Observation(
            self._sensor(state.scene, state.location),
            state.location,
            (state.glimpses_taken * self._glimpse_share).unsqueeze(1),
            None if state.num_classified is None else (state.num_classified / self._targets).unsqueeze(1),
        )

    def final_state(self, before: EpisodeState, after: EpisodeState) -> EpisodeState:
        """The final state of episodes that ended in a step.

        An answer ends an episode without another glimpse, so the last fixation is that before the step. In ``location``
        mode the last glimpse ends the episode.

        Args:
            before: The state before the step.
            after: The state after the step, :attr:`Outcome.state`.
        """
        if self.actions.mode == "location":
            return after
        return after._replace(location=before.location, glimpses_taken=before.glimpses_taken)

    def images(self, state: EpisodeState) -> Tensor:
        """The full images, uint8 (batch, channels, height, width), which an agent does not observe."""
        return self.scenes.images(state.scene)

    def step(self, state: EpisodeState, move: Move) -> Outcome:
        """Apply one move in every episode.

        Args:
            state: The episodes.
            move: One move for each episode.

        Raises:
            ValueError: When the action mode expects answers and the move has none.
        """
        if self.actions.mode == "location":
            return self._step_location(state, move)
        if self.actions.mode == "declare":
            return self._step_declare(state, move)
        return self._step_joint(state, move)

    def _step_declare(self, state: EpisodeState, move: Move) -> Outcome:
        """The step of ``declare`` mode: an answer may be given at any time, once for each target.

        Asking for a glimpse beyond the budget ends the episode without a reward. With the dense reward, an answer
        counts for all remaining glimpses, and their reward is paid at once.
        """
        answer = _require_answer(move)
        correct = (answer == self._target(state)).float()
        answered, out_of_budget = answer < self.num_classes, self.rule.terminated(state.glimpses_taken)
        classified = None if state.num_classified is None else state.num_classified + answered
        over: Tensor = out_of_budget | (answered if classified is None else classified >= self._targets)
        terminal = correct if self._targets == 1 else correct / self._targets
        dense = terminal * (self.rule.num_glimpses + 1 - state.glimpses_taken) if self.rule.reward == "dense" else None
        return self._next_glimpse(state, move, self.rule.earned(dense, terminal), over, correct, classified)

    def _step_joint(self, state: EpisodeState, move: Move) -> Outcome:
        """The step of ``joint`` and ``box`` mode: an answer at every glimpse.

        The glimpse budget is divided equally among the targets. The last answer of each target's part counts.
        """
        target = self._target(state)
        is_correct = _require_answer(move) == target
        over: Tensor = self.rule.terminated(state.glimpses_taken)
        counts = over if self._targets == 1 else state.glimpses_taken % self._glimpses_per_target == 0
        terminal = (is_correct & counts).float()
        gain = log_probability = None
        if move.log_probability is not None and state.log_probability is not None:
            log_probability = move.log_probability.gather(1, target.unsqueeze(1)).squeeze(1)
            gain = log_probability - state.log_probability
            if self._targets > 1:
                log_probability = torch.where(counts, self._uniform_log_probability, log_probability)
        reward = self.rule.earned(is_correct, terminal if self._targets == 1 else terminal / self._targets, gain)
        classified = None if state.num_classified is None else state.num_classified + counts
        return self._next_glimpse(
            state._replace(log_probability=log_probability), move, reward, over, terminal, classified
        )

    def _step_location(self, state: EpisodeState, move: Move) -> Outcome:
        """The step of ``location`` mode: take the next glimpse; the episode ends with the last one."""
        after = state._replace(location=move.location, glimpses_taken=state.glimpses_taken + 1)
        over = self.rule.terminated(after.glimpses_taken)
        if self.classifier is None:
            nothing = torch.zeros(len(over), device=self.device)
            return Outcome(after, nothing - self.rule.glimpse_cost, over, nothing)
        after, is_correct = self._classify(after, self.classifier)
        correct = is_correct.float()
        gain = None
        if after.log_probability is not None and state.log_probability is not None:
            gain = after.log_probability - state.log_probability
        return Outcome(after, self.rule.earned(correct, correct * over, gain), over, correct)

    def _next_glimpse(
        self,
        state: EpisodeState,
        move: Move,
        reward: Float[Tensor, " batch"],
        over: Bool[Tensor, " batch"],
        correct: Float[Tensor, " batch"],
        classified: Int64[Tensor, " batch"] | None,
    ) -> Outcome:
        """Move to the next fixation and update the counts."""
        num_correct = correct if state.num_correct is None else state.num_correct + correct
        return Outcome(
            state._replace(
                location=move.location,
                glimpses_taken=state.glimpses_taken + 1,
                num_classified=classified,
                num_correct=None if state.num_correct is None else num_correct,
            ),
            reward,
            over,
            num_correct,
        )

    def _target(self, state: EpisodeState) -> Int64[Tensor, " batch"]:
        """The class of the next target to classify."""
        if state.num_classified is None:
            return state.labels[:, 0]
        return state.labels.gather(1, state.num_classified.clamp(max=self._targets - 1).unsqueeze(1)).squeeze(1)

    def _classify(self, state: EpisodeState, classifier: Classifier) -> tuple[EpisodeState, Bool[Tensor, " batch"]]:
        """Run the classifier on the current glimpse; also return whether its prediction is correct."""
        with torch.no_grad():
            result = classifier(self._sensor(state.scene, state.location), state.location, state.classifier_state)
        log_probability = result.logits.log_softmax(1).gather(1, state.labels[:, :1]).squeeze(1)
        correct = result.logits.argmax(1) == state.labels[:, 0]
        return state._replace(
            log_probability=log_probability, logits=result.logits, classifier_state=result.state
        ), correct


def _require_answer(move: Move) -> Int64[Tensor, " batch"]:
    if move.answer is None:
        raise ValueError("expected a move with an answer, a class or the number of classes to keep looking; got none")
    return move.answer


def replace_rows(state: Any, rows: Int64[Tensor, " rows"], new: Any) -> Any:
    """Replace the given rows of a state by new episodes.

    Args:
        state: A tensor, None, or a (nested) tuple of them. The canvases of an :class:`EpisodeState` are large: they are
            overwritten in place.
        rows: Indices of the rows to replace.
        new: The new rows, in the same structure.

    Returns:
        The state with the new rows, in the same structure.
    """
    if isinstance(state, EpisodeState) and state.scene.ndim > 1:
        parts = [replace_rows(part, rows, fresh) for part, fresh in zip(state[1:], new[1:], strict=True)]
        return EpisodeState(state.scene.index_copy_(0, rows, new.scene), *parts)
    if isinstance(state, Tensor):
        return state.index_copy(0, rows, new)
    if state is None:
        return None
    return _tuple_like(state, [replace_rows(part, rows, fresh) for part, fresh in zip(state, new, strict=True)])


def select_rows(state: Any, rows: Int64[Tensor, " rows"]) -> Any:
    """Select rows of a state.

    Args:
        state: A tensor, None, or a (nested) tuple of them.
        rows: Indices of the rows.
    """
    if isinstance(state, Tensor):
        return state.index_select(0, rows)
    if state is None:
        return None
    return _tuple_like(state, [select_rows(part, rows) for part in state])


def _tuple_like(example: Any, parts: list[Any]) -> Any:
    return type(example)(*parts) if hasattr(example, "_fields") else tuple(parts)
