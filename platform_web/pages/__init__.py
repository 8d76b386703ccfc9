"""What every page shares: the shell, the look, and the first page by role."""
