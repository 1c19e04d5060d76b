"""``glimpse classify``."""
