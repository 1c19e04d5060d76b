"""The description of the interface, its examples and its page."""
