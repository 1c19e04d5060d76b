"""Backbones: classification networks of torchvision and of timm, cut before their pooling, with or without weights."""

from glimpse.nn.backbones.factory import backbone
from glimpse.nn.backbones.network import Backbone, Normalisation

__all__ = ["Backbone", "Normalisation", "backbone"]
