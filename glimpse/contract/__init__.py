"""What an exported file promises: its card, its tensors, its seal. No torch."""

from glimpse.contract.card import Budget, ContractError, ModelCard

__all__ = [
    "Budget",
    "ContractError",
    "ModelCard",
]
