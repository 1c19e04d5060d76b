"""Gymnasium environments for looking at images."""
