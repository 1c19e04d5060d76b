"""``glimpse train``."""
