"""The HTTP service. Nothing in this package imports torch, Lightning or gymnasium."""
