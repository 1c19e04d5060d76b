"""``glimpse compare``."""
