"""The models that are served: registry, watched folder, names, and those in the package."""
