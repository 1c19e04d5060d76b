"""What ``glimpse train DIR`` makes of three sets of real photographs, and what looking earns there."""
