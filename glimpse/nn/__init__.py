"""The parts of models: retina, encoders, recurrent core, heads, attention and its scores."""

from glimpse.nn.attention import GlobalAttention, LocalAttention, MultiHeadSelfAttention
from glimpse.nn.backbones import Backbone
from glimpse.nn.core import Core
from glimpse.nn.encoders import GlimpseEncoder, ImageEncoder
from glimpse.nn.heads import GaussianPolicy, GridPolicy
from glimpse.nn.retina import Retina
from glimpse.nn.scores import score_function

__all__ = [
    "Backbone",
    "Core",
    "GaussianPolicy",
    "GlimpseEncoder",
    "GlobalAttention",
    "GridPolicy",
    "ImageEncoder",
    "LocalAttention",
    "MultiHeadSelfAttention",
    "Retina",
    "score_function",
]
