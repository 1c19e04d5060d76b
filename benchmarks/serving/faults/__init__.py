"""The service under faults: each fault is one function, played against a real service with real clients."""
