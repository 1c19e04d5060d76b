"""Measuring trained models, their calibration, and the quality of attention maps."""
