"""The speed of training and of its parts."""
