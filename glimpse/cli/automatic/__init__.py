"""``glimpse train DIR`` without further options: candidates are tried, and validation images choose among them."""
