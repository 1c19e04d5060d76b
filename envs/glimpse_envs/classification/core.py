"""The core of every environment here: batched, and without any state of its own.

Images, retina, rule and actions are given; the state of the episodes goes in and comes out. It is the retina and the
rule of the library, so that what is learnt here and what is learnt by a roll-out of the library are the same.
"""

import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from glimpse.contract.episode import EpisodeRule
from glimpse.nn.retina import Retina
from glimpse_envs.classification.actions import Actions, Move
from glimpse_envs.classification.scenes import Scenes, random_locations, random_places


@runtime_checkable
class Classifier(Protocol):
    """Judges what an agent sees in ``location`` mode, glimpse by glimpse; the library's hard model is one."""

    def initial_state(self, batch: int) -> Any:
        """What it carries from glimpse to glimpse, before the first.

        A tensor or a (nested) tuple of them, the batch along the first axis of each.
        """
        ...

    def __call__(self, glimpse: Tensor, location: Tensor, state: Any) -> Any:
        """Take in one glimpse; the answer has ``logits`` and the next ``state``."""
        ...


class State(NamedTuple):
    """Episodes in the middle of their course, one a row."""

    scene: Tensor
    """What is looked at, see :mod:`glimpse_envs.classification.scenes`."""
    labels: Int64[Tensor, "batch targets"]
    """The true classes."""
    location: Float[Tensor, "batch 2"]
    """The present fixation, (x, y) in [-1, 1]."""
    taken: Int64[Tensor, " batch"]
    """Glimpses taken so far, the present one included."""
    told: Int64[Tensor, " batch"] | None = None
    """Targets that have been told, right or wrong; None where an image has but one."""
    right: Float[Tensor, " batch"] | None = None
    """Targets that have been told right; None likewise."""
    belief: Float[Tensor, " batch"] | None = None
    """Log-probability of the true class, nats, as it was held last; None where nobody says it."""
    verdict: Float[Tensor, "batch classes"] | None = None
    """What a classifier makes of the glimpses so far, before the softmax; None without one."""
    memory: Any = None
    """What that classifier carries on."""


class Observation(NamedTuple):
    """What an agent is given."""

    glimpse: Float[Tensor, "batch scales channels size size"]
    """Pixels in [0, 1], finest scale first."""
    location: Float[Tensor, "batch 2"]
    """Where they were seen, (x, y) in [-1, 1]."""
    time: Float[Tensor, "batch 1"]
    """Share of the budget that is used up, in [0, 1]."""
    read: Float[Tensor, "batch 1"] | None = None
    """Share of the targets that have been told, in [0, 1]; None where an image has but one."""


class Outcome(NamedTuple):
    """What a step leads to."""

    state: State
    """The next state; of an episode that an answer has ended it means nothing."""
    reward: Float[Tensor, " batch"]
    terminated: Bool[Tensor, " batch"]
    right: Float[Tensor, " batch"]
    """Targets told right so far, by answers that count."""


class ClassificationCore:
    """Images looked at through a retina under a rule.

    Args:
        scenes: What there is to look at.
        retina: What it is looked at through.
        rule: Budget, reward and cost of a glimpse.
        actions: What an agent may do.
        first_location: ``centre`` or ``random``.
        classifier: Judges what is seen, in ``location`` mode; without one nothing is earned there.
        device: Where everything is.
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
        self._random_start = first_location == "random"
        self._sense = scenes.sensor(retina)
        self._targets = scenes.num_targets
        self._patience = rule.num_glimpses // self._targets
        self._share = 1.0 / rule.num_glimpses
        self._unsure = -math.log(self.num_classes)

    def begin(
        self,
        batch: int,
        generator: torch.Generator,
        images: Int64[Tensor, " batch"] | None = None,
        first: Float[Tensor, "batch 2"] | None = None,
    ) -> State:
        """Begin new episodes; each has its first glimpse already.

        Args:
            batch: How many.
            generator: Where the randomness comes from.
            images: Numbers of the images; chosen at random when left out.
            first: Where to look first, (x, y) in [-1, 1]; the centre or a random place when left out.
        """
        if images is None:
            images = random_places(len(self.scenes), batch, generator, self.device)
        if first is None and self._random_start:
            first = random_locations(batch, generator, self.device)
        if first is None:
            first = torch.zeros(batch, 2, device=self.device)
        scene, labels = self.scenes.deal(images, generator)
        state = State(scene, labels, first, torch.ones(batch, dtype=torch.long, device=self.device))
        if self._targets > 1:
            none = torch.zeros(batch, device=self.device)
            state = state._replace(told=none.long(), right=none)
        if self.actions.mode == "box":
            state = state._replace(belief=torch.full((batch,), self._unsure, device=self.device))
        if self.classifier is not None:
            state, _ = self._judge(state._replace(memory=self.classifier.initial_state(batch)), self.classifier)
        return state

    def observe(self, state: State) -> Observation:
        """What the agent is given in a state."""
        return Observation(
            self._sense(state.scene, state.location),
            state.location,
            (state.taken * self._share).unsqueeze(1),
            None if state.told is None else (state.told / self._targets).unsqueeze(1),
        )

    def closed(self, before: State, after: State) -> State:
        """What episodes that a step has ended come to rest in.

        An answer ends an episode without anything new being seen; in ``location`` mode the last glimpse ends it.

        Args:
            before: The state before the step.
            after: The state that the step led to.
        """
        if self.actions.mode == "location":
            return after
        return after._replace(location=before.location, taken=before.taken)

    def images(self, state: State) -> Tensor:
        """The whole images, uint8 (batch, channels, height, width), which an agent never gets to see."""
        return self.scenes.images(state.scene)

    def step(self, state: State, move: Move) -> Outcome:
        """Do as the agents say.

        Args:
            state: The episodes.
            move: What each agent does.
        """
        if self.actions.mode == "location":
            return self._look_on(state, move)
        if self.actions.mode == "declare":
            return self._declare(state, move)
        return self._answer(state, move)

    def _declare(self, state: State, move: Move) -> Outcome:
        """A class may be named at any time, once for each target; to keep looking beyond the budget earns nothing.

        An answer stands for the rest of the episode, whose dense reward it earns at once.
        """
        answer = _answer_of(move)
        correct = (answer == self._target(state)).float()
        answered, spent = answer < self.num_classes, self.rule.terminated(state.taken)
        told = None if state.told is None else state.told + answered
        over: Tensor = spent | (answered if told is None else told >= self._targets)
        final = correct if self._targets == 1 else correct / self._targets
        standing = final * (self.rule.num_glimpses + 1 - state.taken) if self.rule.reward == "dense" else None
        return self._go_on(state, move, self.rule.earned(standing, final), over, correct, told)

    def _answer(self, state: State, move: Move) -> Outcome:
        """A class is named after each glimpse; the answer that counts is the last, of each target's share of time."""
        target = self._target(state)
        hit = _answer_of(move) == target
        over: Tensor = self.rule.terminated(state.taken)
        counts = over if self._targets == 1 else state.taken % self._patience == 0
        final = (hit & counts).float()
        gain = belief = None
        if move.log_probability is not None and state.belief is not None:
            belief = move.log_probability.gather(1, target.unsqueeze(1)).squeeze(1)
            gain = belief - state.belief
            if self._targets > 1:
                belief = torch.where(counts, self._unsure, belief)
        reward = self.rule.earned(hit, final if self._targets == 1 else final / self._targets, gain)
        told = None if state.told is None else state.told + counts
        return self._go_on(state._replace(belief=belief), move, reward, over, final, told)

    def _look_on(self, state: State, move: Move) -> Outcome:
        """The next glimpse is taken at once, and with the last one the episode is over."""
        seen = state._replace(location=move.location, taken=state.taken + 1)
        over = self.rule.terminated(seen.taken)
        if self.classifier is None:
            nothing = torch.zeros(len(over), device=self.device)
            return Outcome(seen, nothing - self.rule.glimpse_cost, over, nothing)
        judged, right = self._judge(seen, self.classifier)
        correct = right.float()
        gain = None if judged.belief is None or state.belief is None else judged.belief - state.belief
        return Outcome(judged, self.rule.earned(correct, correct * over, gain), over, correct)

    def _go_on(
        self,
        state: State,
        move: Move,
        reward: Float[Tensor, " batch"],
        over: Bool[Tensor, " batch"],
        correct: Float[Tensor, " batch"],
        told: Int64[Tensor, " batch"] | None,
    ) -> Outcome:
        """Take the next glimpse."""
        right = correct if state.right is None else state.right + correct
        told_right = None if state.right is None else right
        return Outcome(
            state._replace(location=move.location, taken=state.taken + 1, told=told, right=told_right),
            reward,
            over,
            right,
        )

    def _target(self, state: State) -> Int64[Tensor, " batch"]:
        """The class that is to be told next."""
        if state.told is None:
            return state.labels[:, 0]
        return state.labels.gather(1, state.told.clamp(max=self._targets - 1).unsqueeze(1)).squeeze(1)

    def _judge(self, state: State, classifier: Classifier) -> tuple[State, Bool[Tensor, " batch"]]:
        """Have the classifier take in the present glimpse, and say whether it is right now."""
        with torch.no_grad():
            seen = classifier(self._sense(state.scene, state.location), state.location, state.memory)
        belief = seen.logits.log_softmax(1).gather(1, state.labels[:, :1]).squeeze(1)
        right = seen.logits.argmax(1) == state.labels[:, 0]
        return state._replace(belief=belief, verdict=seen.logits, memory=seen.state), right


def _answer_of(move: Move) -> Int64[Tensor, " batch"]:
    if move.answer is None:
        raise ValueError("expected a move with an answer, a class or the number of classes to keep looking; got none")
    return move.answer


def renewed(state: Any, rows: Int64[Tensor, " rows"], new: Any) -> Any:
    """Put new episodes into the given rows.

    Args:
        state: A tensor, None, or a tuple of such. A state's canvases are large: they are overwritten in place.
        rows: Which episodes are replaced.
        new: The same for the new episodes.

    Returns:
        The like with the new episodes in it.
    """
    if isinstance(state, State) and state.scene.ndim > 1:
        kept = [renewed(part, rows, fresh) for part, fresh in zip(state[1:], new[1:], strict=True)]
        return State(state.scene.index_copy_(0, rows, new.scene), *kept)
    if isinstance(state, Tensor):
        return state.index_copy(0, rows, new)
    if state is None:
        return None
    return _tuple_like(state, [renewed(part, rows, fresh) for part, fresh in zip(state, new, strict=True)])


def taken(state: Any, rows: Int64[Tensor, " rows"]) -> Any:
    """Some rows of a tensor, None, or a tuple of such.

    Args:
        state: The tensor or tuple.
        rows: Which ones.
    """
    if isinstance(state, Tensor):
        return state.index_select(0, rows)
    if state is None:
        return None
    return _tuple_like(state, [taken(part, rows) for part in state])


def _tuple_like(example: Any, parts: list[Any]) -> Any:
    return type(example)(*parts) if hasattr(example, "_fields") else tuple(parts)
