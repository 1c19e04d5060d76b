"""Pixels: decoding, fitting, reading by windows, coordinates and the crop in numpy. No torch."""
