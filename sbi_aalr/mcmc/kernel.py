"""What a Markov kernel is: its states, its reports and its functions.

A kernel is a set of pure functions over `C` chains and `B` observations at once, after
the pattern of blackjax (Cabezas et al., 2024, arXiv:2402.10797). Tensors that belong to
an observation carry `B` as their first dimension in the kernel's parameters, so that
observations can leave the batch when they are done. How a kernel moves chains stands in
`step.py` and `ahead.py`, how it learns in `run.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from torch import Generator, Tensor

from sbi_aalr.types import LogProbFn


class State(NamedTuple):
    """What the next step needs.

    Attributes:
        position: Where the chains stand, shape `(C, B, D)`.
        log_prob: Log-density there, carried and never recomputed, shape `(C, B)`.
    """

    position: Tensor
    log_prob: Tensor


class Info(NamedTuple):
    """What a diagnostic, or a kernel that learns, wants to know about one step or more.

    Attributes:
        acceptance_rate: Metropolis acceptance probability, the mean over the steps,
            shape `(C, B)`.
        accepted: Whether the last proposal was taken, bool, shape `(C, B)`.
        proposal: The proposed state, whether it was taken or not; of several steps the
            last, or all of them, `(T, C, B)`, where they were made at once.
        component: Which kernel of a mixture was used, long, shape `(C, B)`, or None.
        log_weight: Log-density of proposals that were made at once less that of what
            they were drawn from, shape `(T, C, B)`, nats.
        parts: What the kernels of a mixture report, None for those without a step.
        path: The state after each of several steps, shapes `(T, C, B, D)` and
            `(T, C, B)`.
    """

    acceptance_rate: Tensor
    accepted: Tensor
    proposal: State
    component: Tensor | None = None
    log_weight: Tensor | None = None
    parts: tuple["Info | None", ...] = ()
    path: State | None = None


class Proposal(NamedTuple):
    """Where a kernel would go next.

    Attributes:
        position: Proposed positions, shape `(C, B, D)`.
        log_correction: log q(theta|theta') - log q(theta'|theta), shape `(C, B)`; zero
            for a symmetric proposal.
        component: Which kernel of a mixture made each proposal, long, shape `(C, B)`.
    """

    position: Tensor
    log_correction: Tensor | float = 0.0
    component: Tensor | None = None


# Makes some of the steps that were looked ahead at: state, how many were made before,
# and how many to make -> the state after them, and the report of them.
Steps: TypeAlias = Callable[[State, int, int], tuple[State, Info]]


def _keep_after_step(parameters: Any, info: Info) -> Any:
    """Learn nothing from a warm-up step."""
    return parameters


def _keep_after_window(generator: Generator, parameters: Any, draws: Tensor) -> Any:
    """Learn nothing from draws."""
    return parameters


class Kernel(NamedTuple):
    """A Markov kernel and its warm-up, as pure functions.

    Attributes:
        build: `(generator, starts)` -> parameters, with starts of shape `(C, B, D)`.
        propose: `(generator, position, others, log_prob_fn, parameters)` -> `Proposal`.
            `others` are the chains that stand still meanwhile.
        tune: Parameters after one warm-up step, or several at once, `(parameters,
            info)` -> parameters; left out, they stay.
        refit: Parameters after a warm-up window, `(generator, parameters, draws)` ->
            parameters, where `draws` has shape `(S, C, B, D)`; left out, they stay.
        look_ahead: `(generator, log_prob_fn, parameters, num_chains, num_steps)` ->
            `Steps`, for a kernel that can make so many steps in fewer calls than one
            after the other: what does not depend on where chains stand is drawn and
            evaluated at once. None for the others.
        uses_population: Whether proposals are made from the positions of other chains.
            The chains then move in two halves, each proposing from the half that
            stands still; moving all at once would break detailed balance.
        unconstrained: Whether the kernel needs a target without bounds. It is then run
            through the prior's transform.
        relearn: Parameters after a round of draws that has not converged, as `refit`,
            from all draws so far. A shape that a scale was tuned for is better left as
            it is, as the scale stays.
        needs_prior_units: Whether positions must be in prior units, as in a proposal of
            the user's.
    """

    build: Callable[[Generator, Tensor], Any]
    propose: Callable[[Generator, Tensor, Tensor, LogProbFn, Any], Proposal]
    tune: Callable[[Any, Info], Any] = _keep_after_step
    refit: Callable[[Generator, Any, Tensor], Any] = _keep_after_window
    look_ahead: Callable[[Generator, LogProbFn, Any, int, int], Steps] | None = None
    uses_population: bool = False
    unconstrained: bool = False
    relearn: Callable[[Generator, Any, Tensor], Any] = _keep_after_window
    needs_prior_units: bool = False
