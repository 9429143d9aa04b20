"""What `print(posterior)` says."""

from typing import Any

from sbi_aalr.diagnostics.run_tree import run_to_dataset
from sbi_aalr.networks.stack import Stack
from sbi_aalr.posterior.inputs import find_estimator

_MAX_NAMES = 8


def describe(posterior: Any) -> str:
    """Say of what something is the posterior, and how far its last run came.

    Args:
        posterior: An `MHPosterior`.
    """
    lines = [_list_names(posterior.parameter_names)]
    prior = getattr(posterior.potential_fn, "prior", posterior.proposal)
    lines.append(f"prior: {type(prior).__name__}")
    estimator = find_estimator(posterior.potential_fn)
    if estimator is not None:
        size = sum(weight.numel() for weight in estimator.parameters())
        shape = tuple(estimator.condition_shape)
        many = len(estimator.stacked) if isinstance(estimator, Stack) else 1
        of = f"a stack of {many}, " if many > 1 else ""
        lines.append(f"ratio estimator: {of}{size:,} weights, data of shape {shape}")
    x = posterior.default_x
    lines.append(f"default x: {'none' if x is None else f'shape {tuple(x.shape)}'}")
    lines.append(f"last run: {_describe_run(posterior.run)}")
    return "\n".join(f"  {line}" for line in lines)


def _list_names(names: list[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
    return f"{len(names)} parameter{'s' if len(names) > 1 else ''}: {shown}"


def _describe_run(run: Any) -> str:
    if run is None:
        return "none; call `sample` or `sample_batched`"
    found = run_to_dataset(run)
    chains, draws, count, _ = run.chains.theta.shape
    of = f" for each of {count:,} observations" if run.batched else ""
    return (
        f"{chains} chains of {draws:,} draws{of}, R-hat at most "
        f"{float(found['r_hat'].max()):.4f}, bulk ESS at least "
        f"{float(found['ess_bulk'].min()):,.0f}"
    )
