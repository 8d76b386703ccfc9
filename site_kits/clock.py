"""Saying how far two clocks differ."""

WINDOW_S = 120  # what the portal accepts, either way


def span(seconds: float) -> str:
    """``25 h 3 min`` or ``130 s``, without a sign."""
    minutes, whole = divmod(round(abs(seconds)), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 10 else f"{60 * minutes + whole} s"
