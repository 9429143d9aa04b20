"""Numbers as people want to read them."""

import math


def round_down(ess: float) -> str:
    """Show an effective sample size so that what is below a limit looks it.

    Example:
        >>> round_down(1_399.9), round_down(float("nan"))
        ('1,399', 'undefined')
    """
    return f"{math.floor(ess):,}" if math.isfinite(ess) else "undefined"


def count_decimals(sd: float) -> int:
    """Decimals that show three digits of the standard deviation, at most 8.

    Example:
        >>> count_decimals(0.0123), count_decimals(45.6)
        (4, 1)
    """
    if not math.isfinite(sd) or sd <= 0:
        return 3
    return min(8, max(0, 2 - math.floor(math.log10(sd))))
