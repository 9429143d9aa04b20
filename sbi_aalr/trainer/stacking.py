"""The structures of a trainer, and the stack that is made of them."""

import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.errors import FewHeldOutWarning, NormaliserWarning
from sbi_aalr.networks import Stack
from sbi_aalr.networks.given_density import GIVEN_DENSITY
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.training.assemble import (
    LEAST_HELD_OUT,
    Assembled,
    assemble,
    is_proposal,
)
from sbi_aalr.training.contrasts import Pool
from sbi_aalr.training.history import History
from sbi_aalr.training.members import Member
from sbi_aalr.training.passes import Passes
from sbi_aalr.training.ranks import do_once
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.training.recipe import Recipe


class Source(NamedTuple):
    """Where the simulations of a fit are.

    Attributes:
        open: Batch size -> passes to train on, and held-out batches.
        training: All pairs that are trained on, once there are any.
        held_out: All pairs that are not.
        follows_prior: Whether their parameters follow the trainer's prior.
    """

    open: Callable[[int], tuple[Passes, Iterable[Batch]]]
    training: Callable[[], tuple[Tensor, Tensor]]
    held_out: Callable[[], tuple[Tensor, Tensor]]
    follows_prior: bool = True


# Nats. With 1,000 simulations it is 0.001 to 1.3 on nine tasks of sbibm.
_LARGE_LEVEL_ERROR = 5.0


class Structure(NamedTuple):
    """A structure of the trainer's: what it is, and its estimator.

    Attributes:
        member: What it is; None for the towers.
        estimator: The estimator.
        sees_all: Whether it is trained on what rounds cut off, too.
    """

    member: Member | None
    estimator: RatioEstimator
    sees_all: bool = False

    @property
    def name(self) -> str:
        """What it is called in the summary."""
        return "two_towers" if self.member is None else self.member.name


def keep_better(
    structures: list[Structure], histories: list[History | None]
) -> list[Structure]:
    """Of densities that differ in their networks alone, keep the better.

    The losses of densities that were built from other rows are in other units.

    Args:
        structures: What was tried.
        histories: The history of each; None where there is none.

    Returns:
        What was fitted at all. Of those of one side of Bayes' rule with as many
        components, built from the same rows and trained with rows held out, there is
        the one of the least loss.
    """
    fitted: list[Structure] = []
    best: dict[tuple[str, float, bool], tuple[float, Structure]] = {}
    for structure, history in zip(structures, histories, strict=True):
        member = structure.member
        has_steps = history is not None and len(history.losses) > 0
        if not has_steps and (member is None or member.recipe is not None):
            continue
        fitted.append(structure)
        if member is None or history is None or not history.validation_losses:
            continue
        components = member.settings["num_components"]
        kind = member.name, components, structure.sees_all
        loss = min(history.validation_losses)
        if kind in best:
            worse = max((loss, structure), best[kind], key=lambda one: one[0])
            fitted.remove(worse[1])
            if worse[1] is structure:
                continue
        best[kind] = loss, structure
    return fitted


def may_be_used(trainer: SbiTrainer, source: Source, structure: Structure) -> bool:
    """Whether the stack may have a structure for more than to propose.

    Own densities of theta learn the posterior under what theta follows.
    """
    takes_them = trainer._base != "likelihood" and source.follows_prior
    return takes_them or structure.name != "posterior_mixture"


def put_stack(
    trainer: SbiTrainer,
    source: Source,
    structures: list[Structure],
    seconds: float | None,
) -> Assembled:
    """Put the stack in the place of the trainer's estimator.

    Args:
        trainer: Whose estimator.
        source: Where the simulations are.
        structures: What has been fitted, the most flexible last.
        seconds: About how long it may take; None for as long as it takes.

    Returns:
        The stack, and how it came to be.

    Warns:
        FewHeldOutWarning: If too few rows are held out to choose by.
        NormaliserWarning: If the level of the ratio could not be learned.
    """
    held_out = source.held_out()
    estimators = [s.estimator.eval() for s in structures]
    usable = [may_be_used(trainer, source, structure) for structure in structures]
    if len(held_out[0]) < LEAST_HELD_OUT:
        return _put_simplest(trainer, structures, usable, len(held_out[0]))
    training = source.training()
    device = held_out[1].device
    seed = int(torch.randint(2**31, ()))
    assembled: Assembled = do_once(
        lambda: assemble(
            estimators,
            usable,
            Pool(training[0], trainer._cut, trainer._cut_log_share),
            held_out,
            training,
            torch.Generator(device).manual_seed(seed),
            seconds,
            source.follows_prior,
        )
    )
    trainer._neural_net = assembled.stack
    if assembled.level_error > _LARGE_LEVEL_ERROR:
        warnings.warn(
            NormaliserWarning(
                "The level of the log-ratio could not be learned: it is off by about "
                f"{assembled.level_error:.3g} nats from one `x` to another, as where "
                "data tell far more of theta than any density that proposes, or "
                "scatter over decades. Posteriors and `log_prob` do not depend on it; "
                "`ratio_roc` and `classifier_balance` do. Simulate more.",
                assembled.level_error,
            ),
            stacklevel=2,
        )
    return assembled


def _put_simplest(
    trainer: SbiTrainer, structures: list[Structure], usable: list[bool], num_rows: int
) -> Assembled:
    """Put what can hardly be fitted badly: a density that was given, or the first."""
    names = [one.name for one in structures]
    place = usable.index(True)
    if GIVEN_DENSITY in names:
        place = names.index(GIVEN_DENSITY)
    estimators = [one.estimator for one in structures]
    weights = torch.zeros(len(estimators))
    weights[place] = 1.0
    proposal = next((one for one in estimators if is_proposal(one)), None)
    stack = Stack(estimators, weights, proposal=proposal).to(trainer._device)
    trainer._neural_net = stack
    warnings.warn(
        FewHeldOutWarning(
            f"{num_rows} rows are held out, and it takes {LEAST_HELD_OUT} to choose "
            f"between estimators, so the simplest is kept alone: {names[place]}. "
            "Simulate more, or raise `validation_fraction`.",
            num_rows,
        ),
        stacklevel=2,
    )
    return Assembled(stack, weights)


def describe_structures(
    trainer: SbiTrainer,
    offered: list[Structure],
    assembled: Assembled | None,
    histories: list[History | None],
    recipe: Recipe,
    started: float,
) -> None:
    """Write into the summary what was tried, and what was chosen.

    Args:
        trainer: Whose summary.
        offered: What the stack was to be made of: structures of the trainer, and others
            that lost against one of them.
        assembled: What `put_stack` returned; None if it was interrupted.
        histories: The history of each structure of the trainer; None where there is
            none.
        recipe: How the towers were trained.
        started: When the time began to run, by `time.perf_counter`.
    """
    places = {one.estimator: place for place, one in enumerate(offered)}
    own: list[Structure] = trainer._structures or []
    known = {one.estimator: h for one, h in zip(own, histories, strict=True)}
    runners_up = [one for one in offered if one.estimator not in known]
    tried = []
    for structure in [*own, *runners_up]:
        history = known.get(structure.estimator)
        entry: dict[str, Any] = {
            "structure": structure.name,
            "settings": getattr(structure.estimator, "classifier_settings", None),
            "num_weights": sum(p.numel() for p in structure.estimator.parameters()),
        }
        if structure.estimator not in known:
            entry["is_runner_up"] = True
        if structure.sees_all:
            entry["sees_all"] = True
        if history is not None:
            entry["num_passes"] = len(history.pass_losses)
            entry["seconds"] = history.seconds
        place = places.get(structure.estimator)
        if place is not None and assembled is not None:
            entry["weight"] = float(assembled.weights[place])
            if assembled.losses is not None:
                entry["held_out_loss"] = float(assembled.losses[place])
        elif assembled is not None and history is not None:
            entry["weight"] = 0.0  # not offered: see `keep_better`
        tried.append(entry)
    estimator = trainer._neural_net
    chosen = {
        "classifier": "stack" if isinstance(estimator, Stack) else "two_towers",
        "classifier_settings": None,
        "is_separable": True,
        "num_weights": sum(p.numel() for p in estimator.parameters()),
        "base": trainer._base if isinstance(trainer._base, str) else "given",
        "structures": tried,
        "has_correction": isinstance(estimator, Stack) and estimator.has_correction,
        "held_out_loss": None if assembled is None else assembled.loss,
        **recipe._asdict(),
        **vars(RatioLoss()),
        "stack_seconds": time.perf_counter() - started,
    }
    trainer._summary.setdefault("recipe", []).append(chosen)
    trainer._tracker.log_params({**chosen, "structures": [dict(e) for e in tried]})
    # Not for the tracker, which takes single values. Runners-up come last.
    for entry, history in zip(tried, histories, strict=False):
        if history is not None:
            entry["training_loss"] = history.pass_losses
            entry["validation_loss"] = history.validation_losses
