"""Environments in which an agent classifies an image from a sequence of glimpses."""

from glimpse_envs.classification.scenes import Pictures
from glimpse_envs.classification.single import GlimpseEnv
from glimpse_envs.classification.spaces import DictObservation
from glimpse_envs.classification.task import Task
from glimpse_envs.classification.tensor import TensorEnv
from glimpse_envs.classification.vector import GlimpseVectorEnv

__all__ = ["DictObservation", "GlimpseEnv", "GlimpseVectorEnv", "Pictures", "Task", "TensorEnv"]
