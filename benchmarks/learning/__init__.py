"""What recipes reach, and how noisy the estimators of the gradient are."""
