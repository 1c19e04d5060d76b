"""Training: LightningModules and callbacks."""

from glimpse.training.families.hard import HardAttentionTraining

__all__ = ["HardAttentionTraining"]
