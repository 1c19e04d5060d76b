"""What an exported file promises: its card, its tensors, its seal. No torch."""
