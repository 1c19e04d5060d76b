import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal

from glimpse.nn.heads import GaussianPolicy, GridPolicy, LocationPolicy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_gaussian_is_sampled_without_bounds_and_the_fixation_is_its_clamp():
    policy = GaussianPolicy(4)
    mean = torch.tensor([[0.95, -1.2]]).expand(20_000, -1)
    action = policy.sample(mean, 0.3, generator())
    assert (action > 1).any()
    assert (action < -1).any()
    torch.testing.assert_close(action.mean(0), mean[0], atol=0.01, rtol=0)
    torch.testing.assert_close(action.std(0), torch.tensor([0.3, 0.3]), atol=0.01, rtol=0)
    assert abs(float(torch.corrcoef(action.T)[0, 1])) < 0.03
    location = policy.location(action)
    inside = action.abs() <= 1
    assert torch.equal(location[inside], action[inside])
    assert torch.equal(location[~inside], action[~inside].sign())


def test_the_gaussians_mode_is_its_mean_and_its_fixation_the_clamp_of_that():
    policy = GaussianPolicy(4)
    mean = torch.tensor([[0.4, -1.7]], requires_grad=True)
    mode = policy.mode(mean)
    assert torch.equal(mode, mean.detach())
    assert not mode.requires_grad
    assert policy.location(mode).tolist() == [[pytest.approx(0.4), -1.0]]


@pytest.mark.parametrize("spread", [0.05, 0.3, 2.0])
def test_the_gaussians_log_probability_and_entropy_are_those_of_torch(spread):
    policy = GaussianPolicy(4)
    mean = torch.randn(50, 2, generator=generator(), dtype=torch.float64)
    action = policy.sample(mean, spread, generator(1))
    reference = Normal(mean, spread)
    torch.testing.assert_close(policy.log_prob(mean, action, spread), reference.log_prob(action).sum(1))
    torch.testing.assert_close(policy.entropy(mean, spread), reference.entropy().sum(1))


def test_no_sample_carries_a_gradient_and_the_log_probability_does():
    for policy, parameters in ((GaussianPolicy(4), torch.zeros(3, 2)), (GridPolicy(4, 2), torch.zeros(3, 4))):
        parameters.requires_grad_()
        action = policy.sample(parameters, 0.5, generator())
        assert not action.requires_grad
        assert not policy.location(action).requires_grad
        assert policy.log_prob(parameters, action, 0.5).requires_grad


def test_a_saccade_starts_from_the_present_location():
    hidden, location = torch.randn(5, 4), torch.rand(5, 2)
    saccade, place = GaussianPolicy(4, relative=True), GaussianPolicy(4, relative=False)
    place.load_state_dict(saccade.state_dict())
    torch.testing.assert_close(saccade(hidden, location), place(hidden, location) + location)
    assert torch.equal(place(hidden, location), place(hidden, -location))


def test_the_grids_cells_are_numbered_row_by_row_with_x_along_the_row():
    policy = GridPolicy(4, 3)
    places = policy.location(torch.arange(9))
    expected = [[x, y] for y in (-2 / 3, 0.0, 2 / 3) for x in (-2 / 3, 0.0, 2 / 3)]
    torch.testing.assert_close(places, torch.tensor(expected))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_grid_is_torchs_categorical(temperature):
    policy = GridPolicy(4, 3)
    scores = torch.randn(20, 9, generator=generator(), dtype=torch.float64)
    reference = Categorical(logits=scores / temperature)
    action = policy.sample(scores, temperature, generator(2))
    assert action.dtype == torch.long
    torch.testing.assert_close(policy.log_prob(scores, action, temperature), reference.log_prob(action))
    torch.testing.assert_close(policy.entropy(scores, temperature), reference.entropy())


@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_the_grid_is_sampled_as_often_as_it_says(temperature):
    policy = GridPolicy(4, 2)
    scores = torch.tensor([[0.0, 1.0, -1.0, 0.5]]).expand(40_000, -1)
    counts = policy.sample(scores, temperature, generator()).bincount(minlength=4).double()
    expected = 40_000 * (scores[0].double() / temperature).softmax(0)
    assert float(((counts - expected) ** 2 / expected).sum()) < 16.3  # chi-square, 3 degrees: one seed in a thousand


def test_the_grids_mode_is_its_best_cell():
    policy = GridPolicy(4, 2)
    assert policy.mode(torch.tensor([[0.0, 3.0, 1.0, 2.0], [5.0, 3.0, 1.0, 2.0]])).tolist() == [1, 0]


@pytest.mark.parametrize("policy", [GaussianPolicy(4), GridPolicy(4, 3)])
def test_the_generator_alone_decides(policy: LocationPolicy):
    parameters = policy(torch.randn(6, 4), torch.zeros(6, 2))

    def draw(seed: int) -> Tensor:
        return policy.sample(parameters, 1.0, generator(seed))

    torch.manual_seed(1)
    once = draw(3)
    torch.manual_seed(2)
    assert torch.equal(once, draw(3))
    assert not torch.equal(once, draw(4))


def test_the_first_saccades_of_a_new_policy_are_short():
    torch.manual_seed(0)
    policy = GaussianPolicy(256, relative=True)
    mean = policy(torch.randn(100, 256).clamp(-1, 1), torch.zeros(100, 2))
    assert mean.abs().max() < 0.5
    assert not policy.mean.bias.any()


def test_a_grid_without_cells_is_refused():
    with pytest.raises(ValueError, match="expected a grid of at least 1 cell along each side, got 0; raise it"):
        GridPolicy(4, 0)
