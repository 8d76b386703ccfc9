"""Differential privacy of a run: what it costs, where it holds, what a site has spent. No torch here."""
