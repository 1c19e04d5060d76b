"""The served models: registry, watched directory, names, bundled models."""
