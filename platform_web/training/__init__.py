"""Studies, runs and rounds: what is asked for, what came back, in rows."""
