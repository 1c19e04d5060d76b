import pytest
import torch

from glimpse.nn.core import CORES, Core


@pytest.mark.parametrize("cell", CORES)
def test_a_state_is_one_tensor_that_begins_at_zero(cell):
    core = Core(5, 7, cell)
    state = core.initial_state(3, torch.device("cpu"))
    assert state.shape == (3, core.state_size)
    assert core.state_size == (14 if cell == "lstm" else 7)
    assert not state.any()
    after = core(torch.randn(3, 5), state)
    assert after.shape == state.shape
    assert core.output(after).shape == (3, 7)


@pytest.mark.parametrize(("cell", "layer"), [("gru", torch.nn.GRU), ("lstm", torch.nn.LSTM), ("plain", torch.nn.RNN)])
def test_steps_add_up_to_the_whole_sequence(cell, layer):
    torch.manual_seed(0)
    core = Core(5, 7, cell)
    whole = layer(5, 7, batch_first=True, **({"nonlinearity": "relu"} if cell == "plain" else {}))
    whole.load_state_dict({f"{name}_l0": value for name, value in core.cell.state_dict().items()})
    sequence = torch.randn(3, 4, 5)
    state = core.initial_state(3, torch.device("cpu"))
    outputs = []
    for inputs in sequence.unbind(1):
        state = core(inputs, state)
        outputs.append(core.output(state))
    torch.testing.assert_close(torch.stack(outputs, 1), whole(sequence)[0])


def test_the_plain_cell_is_the_papers():
    core = Core(4, 6, "plain")
    inputs, state = torch.randn(2, 4), torch.randn(2, 6)
    cell = core.cell
    expected = torch.relu(inputs @ cell.weight_ih.T + cell.bias_ih + state @ cell.weight_hh.T + cell.bias_hh)
    torch.testing.assert_close(core(inputs, state), expected)


def test_an_unknown_cell_is_refused():
    with pytest.raises(ValueError, match=r"recurrent core out of \('gru', 'lstm', 'plain'\), got 'xlstm'; choose one"):
        Core(4, 4, "xlstm")
