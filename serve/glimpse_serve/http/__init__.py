"""Requests and responses: reading bodies, compression, cancellation."""
