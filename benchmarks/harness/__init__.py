"""What benchmarks share: the machine, fresh processes, reports."""
