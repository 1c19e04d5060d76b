import math
from typing import Any

import pytest
import torch
from torch import Tensor

from glimpse.contract.episode import EpisodeRule
from glimpse.models.hard import HardAttention, rollout_hard
from glimpse.nn.retina import Retina, extract_glimpse
from glimpse.rollout import follow
from glimpse.training.objectives import rewards_of
from glimpse_envs.classification.actions import Move
from glimpse_envs.classification.core import ClassificationCore, EpisodeState, replace_rows, select_rows
from glimpse_envs.classification.scenes import Pictures
from glimpse_envs.classification.task import Task

CLASSES, BATCH = 4, 6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


IMAGES = torch.randint(0, 256, (9, 1, 20, 30), generator=generator(), dtype=torch.uint8)
LABELS = torch.randint(0, CLASSES, (9,), generator=generator(1))
PICTURES = Pictures(IMAGES, LABELS, tuple("abcd"))
PAIRS = Pictures(IMAGES, torch.randint(0, CLASSES, (9, 2), generator=generator(2)), tuple("abcd"))


def make_core(**options: Any) -> ClassificationCore:
    given = {"dataset": PICTURES, "glimpse_size": 6, "num_scales": 2, "num_glimpses": 3} | options
    return Task.of(**given).core()


def begun(core: ClassificationCore, batch: int = BATCH) -> EpisodeState:
    return core.reset(batch, generator(), torch.arange(batch))


def somewhere(seed: int, batch: int = BATCH) -> Tensor:
    return torch.rand(batch, 2, generator=generator(seed)) * 2 - 1


def saying(answers: list[int], seed: int = 3) -> Move:
    return Move(somewhere(seed, len(answers)), torch.tensor(answers))


def test_an_agent_sees_the_librarys_glimpse_and_where_and_how_late():
    core = make_core()
    state = begun(core)
    seen = core.observe(state)
    exact = extract_glimpse(IMAGES[:BATCH], torch.zeros(BATCH, 2), 6, 2, 2)
    torch.testing.assert_close(seen.glimpse, exact, atol=0.51 / 255, rtol=0)
    assert seen.location.tolist() == [[0, 0]] * BATCH
    torch.testing.assert_close(seen.time, torch.full((BATCH, 1), 1 / 3))
    assert seen.read is None
    after = core.step(state, saying([CLASSES] * BATCH)).state
    seen = core.observe(after)
    exact = extract_glimpse(IMAGES[:BATCH], somewhere(3), 6, 2, 2)
    torch.testing.assert_close(seen.glimpse, exact, atol=0.51 / 255, rtol=0)
    torch.testing.assert_close(seen.time, torch.full((BATCH, 1), 2 / 3))


def test_the_first_glimpse_may_be_anywhere():
    core = make_core(first_location="random")
    assert core.reset(100, generator()).location.std(0).min() > 0.4
    forced = core.reset(2, generator(), first=torch.tensor([[0.5, 0.0], [0.0, 1.0]]))
    assert forced.location.tolist() == [[0.5, 0.0], [0.0, 1.0]]


def test_a_declaration_ends_the_episode_and_earns_1_if_right():
    core = make_core(glimpse_cost=0.125)
    labels = LABELS[:BATCH].tolist()
    answers = [*labels[:2], *((label + 1) % CLASSES for label in labels[2:4]), CLASSES, CLASSES]
    outcome = core.step(begun(core), saying(answers))
    assert outcome.terminated.tolist() == [True] * 4 + [False] * 2
    assert outcome.reward.tolist() == [0.875] * 2 + [-0.125] * 4
    assert outcome.num_correct.tolist() == [1, 1, 0, 0, 0, 0]


def test_to_keep_looking_beyond_the_budget_ends_it_without_an_answer():
    core = make_core()
    state = begun(core)
    for _ in range(2):
        outcome = core.step(state, saying([CLASSES] * BATCH))
        assert not outcome.terminated.any()
        state = outcome.state
    outcome = core.step(state, saying([CLASSES] * BATCH))
    assert outcome.terminated.all()
    assert outcome.reward.tolist() == [0] * BATCH
    assert outcome.num_correct.tolist() == [0] * BATCH


def test_a_dense_reward_pays_an_early_declaration_for_all_that_is_left():
    core = make_core(reward="dense")
    right = LABELS[:BATCH].tolist()
    first = core.step(begun(core), saying(right))
    assert first.reward.tolist() == [1.0] * BATCH
    later = core.step(core.step(begun(core), saying([CLASSES] * BATCH)).state, saying(right))
    torch.testing.assert_close(later.reward, torch.full((BATCH,), 2 / 3))


@pytest.mark.parametrize(
    ("mode", "reward"),
    [("joint", "terminal"), ("joint", "dense"), ("box", "terminal"), ("box", "dense"), ("box", "improvement")],
)
def test_rewards_are_those_of_the_rule_over_the_whole_episode(mode, reward):
    core = make_core(action_mode=mode, reward=reward, glimpse_cost=0.25)
    logits = torch.randn(BATCH, 3, CLASSES, generator=generator(5))
    state, earned, ended = begun(core), [], []
    for time in range(3):
        told = logits[:, time]
        move = Move(somewhere(time), told.argmax(1), told.log_softmax(1) if mode == "box" else None)
        outcome = core.step(state, move)
        state = outcome.state
        earned.append(outcome.reward)
        ended.append(bool(outcome.terminated.all()))
    assert ended == [False, False, True]
    expected = rewards_of(logits, LABELS[:BATCH], EpisodeRule(3, reward, 0.25))
    torch.testing.assert_close(torch.stack(earned, 1), expected)
    assert torch.equal(outcome.num_correct, (logits[:, -1].argmax(1) == LABELS[:BATCH]).float())


@pytest.mark.parametrize("reward", ["terminal", "dense", "improvement"])
def test_a_classifier_judges_what_is_looked_at_as_in_a_roll_out(reward):
    torch.manual_seed(1)
    model = HardAttention(CLASSES, glimpse_size=6, num_scales=2, hidden=12, gaze="nothing")
    torch.nn.init.normal_(model.classifier.weight, std=3.0)
    core = make_core(action_mode="location", classifier=model, reward=reward, glimpse_cost=0.5)
    locations = torch.stack([torch.zeros(BATCH, 2), somewhere(1), somewhere(2)], 1)
    state, earned = begun(core), []
    for time in (1, 2):
        outcome = core.step(state, Move(locations[:, time]))
        state = outcome.state
        earned.append(outcome.reward)
    assert outcome.terminated.all()
    with torch.no_grad():
        exact = Retina(6, 2, 2)
        trace = rollout_hard(model, exact, IMAGES[:BATCH], 3, follow(locations))
    expected = rewards_of(trace.logits, LABELS[:BATCH], EpisodeRule(3, reward, 0.5))
    torch.testing.assert_close(torch.stack(earned, 1), expected[:, 1:], atol=0.02, rtol=0)
    assert state.logits is not None
    torch.testing.assert_close(state.logits, trace.logits[:, -1], atol=0.02, rtol=0)


def test_without_a_classifier_nothing_is_earned_and_the_last_glimpse_ends_it():
    core = make_core(action_mode="location")
    state = begun(core)
    first = core.step(state, Move(somewhere(1)))
    assert not first.terminated.any()
    last = core.step(first.state, Move(somewhere(2)))
    assert last.terminated.all()
    assert last.reward.tolist() == [0] * BATCH
    assert last.state.glimpses_taken.tolist() == [3] * BATCH


def test_a_sequence_is_declared_one_target_after_the_other():
    core = make_core(dataset=PAIRS, num_glimpses=5)
    labels = PAIRS.labels[:BATCH]
    state = begun(core)
    first = core.step(state, saying(labels[:, 0].tolist()))
    assert not first.terminated.any()
    assert first.reward.tolist() == [0.5] * BATCH
    read = core.observe(first.state).read
    assert read is not None
    assert read.flatten().tolist() == [0.5] * BATCH
    wait = core.step(first.state, saying([CLASSES] * BATCH))
    assert wait.reward.tolist() == [0] * BATCH
    answers = [*labels[:3, 1].tolist(), *((labels[3:, 1] + 1) % CLASSES).tolist()]
    second = core.step(wait.state, saying(answers))
    assert second.terminated.all()
    assert second.reward.tolist() == [0.5] * 3 + [0.0] * 3
    assert second.num_correct.tolist() == [2] * 3 + [1] * 3


def test_at_a_fixed_budget_each_target_of_a_sequence_has_its_share_of_time():
    core = make_core(dataset=PAIRS, num_glimpses=4, action_mode="box", reward="improvement")
    logits = torch.randn(BATCH, 4, CLASSES, generator=generator(7))
    state, earned, right = begun(core), [], []
    for time in range(4):
        told = logits[:, time]
        outcome = core.step(state, Move(somewhere(time), told.argmax(1), told.log_softmax(1)))
        state = outcome.state
        earned.append(outcome.reward)
        right.append(outcome.num_correct)
    rule = EpisodeRule(2, "improvement")
    halves = [rewards_of(logits[:, 2 * at : 2 * at + 2], PAIRS.labels[:BATCH, at], rule) for at in (0, 1)]
    torch.testing.assert_close(torch.stack(earned, 1), torch.cat(halves, 1))
    hits = [(logits[:, 2 * at + 1].argmax(1) == PAIRS.labels[:BATCH, at]).float() for at in (0, 1)]
    assert torch.equal(right[1], hits[0])
    assert torch.equal(right[3], hits[0] + hits[1])


def test_a_uniform_guess_is_where_an_improvement_begins():
    core = make_core(action_mode="box", reward="improvement")
    unsure = Move(somewhere(1), torch.zeros(BATCH, dtype=torch.long), torch.full((BATCH, CLASSES), -math.log(CLASSES)))
    torch.testing.assert_close(core.step(begun(core), unsure).reward, torch.zeros(BATCH))


def test_a_batch_mate_changes_nothing():
    core = make_core(action_mode="joint")
    together = core.step(begun(core), saying([0, 1, 2, 3, 0, 1]))
    alone_state = core.reset(1, generator(), torch.tensor([4]))
    move = saying([0, 1, 2, 3, 0, 1])
    assert move.answer is not None
    alone = core.step(alone_state, Move(move.location[4:5], move.answer[4:5]))
    assert torch.equal(core.observe(alone.state).glimpse[0], core.observe(together.state).glimpse[4])
    assert torch.equal(alone.reward[0], together.reward[4])


def test_an_answer_is_asked_for_where_one_counts():
    core = make_core()
    with pytest.raises(ValueError, match="expected a move with an answer, a class or the number of classes"):
        core.step(begun(core), Move(somewhere(1)))


def test_rows_are_taken_and_replaced_at_any_depth():
    state = (torch.arange(4), None, (torch.arange(4.0).view(4, 1),))
    rows = torch.tensor([2, 0])
    picked = select_rows(state, rows)
    assert picked[0].tolist() == [2, 0]
    assert picked[1] is None
    new = replace_rows(state, rows, (torch.tensor([7, 8]), None, (torch.tensor([[7.0], [8.0]]),)))
    assert new[0].tolist() == [8, 1, 7, 3]
    assert new[2][0].flatten().tolist() == [8, 1, 7, 3]
    assert state[0].tolist() == [0, 1, 2, 3]
