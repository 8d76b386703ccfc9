"""Saying how far two clocks differ."""

WINDOW_S = 120  # what the portal accepts, either way
_MINUTE_S = 60


def span(seconds: float) -> str:
    """``25 h 3 min`` or, below ten minutes, ``130 s``; without a sign."""
    seconds = abs(seconds)
    if seconds < 10 * _MINUTE_S:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / _MINUTE_S), 60)
    return f"{hours} h {minutes} min"
