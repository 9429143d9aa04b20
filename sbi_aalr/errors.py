"""The exceptions and warnings of this package, on one page.

Errors are Python's own: `ValueError` for values, `TypeError` for types, `ImportError`
for a missing extra; a call that comes too early is a `CallOrderError`. Warnings share
one base class so that one filter silences or escalates them all.
"""


class CallOrderError(RuntimeError, ValueError):
    """A call that needs another one before it, which its message names.

    It is a `RuntimeError`, as the state is what is wrong, and a `ValueError` as well,
    which is what sbi raises where an observation is missing.
    """


class DivergenceError(ValueError):
    """A series whose terms grow, so that its sum would say nothing."""


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


class PrecisionWarning(AALRWarning):
    """Numbers are so close together that float32 hardly tells them apart."""


class TrialsWarning(AALRWarning):
    """More i.i.d. trials are taken together than an estimated ratio is good for."""


class LostModesWarning(AALRWarning):
    """All chains descend from so few starts that a mode may have been lost."""


class FarObservationWarning(AALRWarning):
    """An observation is farther from the simulations than any simulation is.

    Its `value` is the distance over the typical one, or in ranges of the simulations
    where a single number is out of them.
    """


class UnsavedPriorWarning(AALRWarning):
    """A posterior was saved without its prior, which is to be given when loading."""


class CheckpointWarning(AALRWarning):
    """A checkpoint could not be written; training goes on, the last good one stays."""


class NoWorkersWarning(AALRWarning):
    """A cluster has no workers left; the call waits until it has some."""


class OtherObservationWarning(AALRWarning):
    """A posterior that was truncated for one observation is asked about others."""


class NormaliserWarning(AALRWarning):
    """A normaliser is hardly known, so that what it is the constant of is off."""


class UnusedSettingsWarning(AALRWarning):
    """Settings of sbi's sampler were given that have no meaning for ours."""


class InvalidSimulationsWarning(AALRWarning):
    """Simulations with NaN or infinity were left out of training."""


class OtherPriorWarning(AALRWarning):
    """Parameters do not follow the prior that was given, or it rules them out."""


class FewHeldOutWarning(AALRWarning):
    """So few simulations are held out that nothing can be chosen by them."""


class TimeLimitWarning(AALRWarning):
    """A limit of time ended a fit that had hardly begun; its `value` is its steps."""


class TuningWarning(AALRWarning):
    """Tuning was given up, and the plain fit is kept; or what tunes was trained on."""


class IndefiniteHessianWarning(AALRWarning):
    """A training loss curves downwards somewhere, so its weights are at no minimum."""
