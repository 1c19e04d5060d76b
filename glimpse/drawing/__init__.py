"""Drawings of scanpaths, attention maps, glimpses and curves with Pillow. No torch."""

from glimpse.drawing.album import PictureFolder
from glimpse.drawing.answer import draw_answer, draw_attention, draw_classification
from glimpse.drawing.heatmap import draw_map, draw_maps
from glimpse.drawing.retina import draw_retina
from glimpse.drawing.scanpath import draw_scanpath
from glimpse.drawing.view import FramedPrediction, View, animate, draw, view_of

__all__ = [
    "FramedPrediction",
    "PictureFolder",
    "View",
    "animate",
    "draw",
    "draw_answer",
    "draw_attention",
    "draw_classification",
    "draw_map",
    "draw_maps",
    "draw_retina",
    "draw_scanpath",
    "view_of",
]
