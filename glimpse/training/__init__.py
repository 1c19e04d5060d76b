"""Training: LightningModules and callbacks."""

from glimpse.training.module import HardAttentionTraining

__all__ = ["HardAttentionTraining"]
