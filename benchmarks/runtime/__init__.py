"""Exported models: speed, start, sizes, early exit, parity."""
