"""The models, one file each. The relaxed family trains the hard model; its roll-out is ``rollout_relaxed``."""

from glimpse.models.cnn import ConvolutionalNet
from glimpse.models.focus import GlanceAndFocus
from glimpse.models.hard import HardAttention
from glimpse.models.mlp import FullyConnectedNet
from glimpse.models.relaxed import rollout_relaxed
from glimpse.models.self_attention import SelfAttention
from glimpse.models.soft import SoftAttention

__all__ = [
    "ConvolutionalNet",
    "FullyConnectedNet",
    "GlanceAndFocus",
    "HardAttention",
    "SelfAttention",
    "SoftAttention",
    "rollout_relaxed",
]
