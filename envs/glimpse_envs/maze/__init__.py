"""A maze seen through a small window, whose shortest path is known."""
