"""Recurrent cores: the state of the model between glimpses.

Mnih et al. 2014, section 3.1, the core network f_h: ``h_t = f_h(h_{t-1}, g_t)``. The paper uses
``Rect(Linear(h) + Linear(g))`` for still images and an LSTM for a game; the GRU (Cho et al. 2014) is the default here.
The state is one tensor for every kind of cell, so that loops, graphs and files need not know the cell.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

CORES = ("gru", "lstm", "plain")


class Core(nn.Module):
    """A recurrent cell with its state in one tensor.

    Args:
        inputs: Length of the input vector.
        hidden: Length of the output vector.
        cell: ``gru``, ``lstm`` or ``plain`` (the paper's rectified cell).

    Raises:
        ValueError: When the cell is unknown.
    """

    def __init__(self, inputs: int, hidden: int, cell: str = "gru") -> None:
        super().__init__()
        if cell not in CORES:
            raise ValueError(f"expected a recurrent core out of {CORES}, got {cell!r}; choose one of them")
        self.hidden = hidden
        if cell == "plain":
            self.cell: nn.RNNCellBase = nn.RNNCell(inputs, hidden, nonlinearity="relu")
        else:
            self.cell = (nn.LSTMCell if cell == "lstm" else nn.GRUCell)(inputs, hidden)

    @property
    def state_size(self) -> int:
        """Length of the state vector: twice the output's for an LSTM, whose state is output and memory side by side."""
        return self.hidden * (2 if isinstance(self.cell, nn.LSTMCell) else 1)

    def initial_state(self, batch: int, device: torch.device) -> Float[Tensor, "batch state"]:
        """The state before the first glimpse: zeros."""
        return torch.zeros(batch, self.state_size, device=device)

    def forward(
        self, inputs: Float[Tensor, "batch inputs"], state: Float[Tensor, "batch state"]
    ) -> Float[Tensor, "batch state"]:
        """Take one step and return the next state."""
        if isinstance(self.cell, nn.LSTMCell):
            output, memory = self.cell(inputs, (state[:, : self.hidden], state[:, self.hidden :]))
            return torch.cat([output, memory], dim=1)
        return self.cell(inputs, state)  # type: ignore[no-any-return]

    def output(self, state: Float[Tensor, "batch state"]) -> Float[Tensor, "batch hidden"]:
        """The part of a state that the other parts of the model read."""
        return state[:, : self.hidden]
