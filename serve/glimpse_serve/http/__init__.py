"""Reading requests: bodies, compression, cancellation."""
