"""Answering jobs: the batcher, the loaded model, explanations."""
