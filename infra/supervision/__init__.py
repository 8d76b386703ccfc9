"""Starts the platform's own processes, keeps them running and ends them together."""
