"""Running jobs on models: job types, the batcher, the served model, explanations."""
