"""Measuring trained models, their calibration, and what attention maps are worth."""
