"""The contract of an exported file: its card, its tensors, its seal. No torch."""

from glimpse.contract.card import Budget, ContractError, ModelCard

__all__ = [
    "Budget",
    "ContractError",
    "ModelCard",
]
