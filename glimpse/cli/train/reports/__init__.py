"""What a training tells before it starts and at its end: the data, the models, which to take."""
