"""The warnings of this package, on one page.

Errors are Python's own: `ValueError` for values, `TypeError` for types, `RuntimeError`
for a wrong order of calls, `ImportError` for a missing extra. Warnings share one base
class so that one filter silences or escalates them all.
"""


class AALRWarning(UserWarning):
    """Base class of every warning that this package raises.

    Args:
        message: What happened, and what to do about it.
        value: The number that set the warning off.
    """

    def __init__(self, message: str, value: float = float("nan")) -> None:
        super().__init__(message)
        self.value = value


class ConvergenceWarning(AALRWarning):
    """Chains are not long enough, or do not agree, for their draws to be trusted."""
