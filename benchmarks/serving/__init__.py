"""The service: cost of a request, faults, Ray."""
