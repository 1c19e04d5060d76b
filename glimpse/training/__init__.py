"""Training: LightningModules and callbacks."""

from glimpse.training.hard import HardAttentionTraining

__all__ = ["HardAttentionTraining"]
