"""A run under FLSA-1: orders become plans, contributions masked vectors, aggregates sums. Torch-free."""
