"""The parts that all benchmarks use: the machine, fresh processes, reports."""
