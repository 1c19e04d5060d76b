"""Attention maps, their cost and their symmetry."""
