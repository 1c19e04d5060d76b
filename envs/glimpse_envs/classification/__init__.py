"""Environments that show images by glimpses and ask for their classes."""
