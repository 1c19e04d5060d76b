"""The environments: speed, and what agents learn in them."""
