"""A run: its folder, the lock on it, and the processes that share its training."""
