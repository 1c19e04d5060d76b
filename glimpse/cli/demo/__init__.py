"""``glimpse demo``."""
