"""Drawings of scanpaths, attention maps, glimpses and curves with Pillow. No torch."""
