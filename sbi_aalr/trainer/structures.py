"""The default recipe: fit several structures, and stack them by held-out loss.

Densities of both sides of Bayes' rule come first, closed forms and mixtures, and the
towers last, trained on Algorithm 1's pairs. The stack finds out which of them the
problem wants; those of no weight are dropped.

References:
    Hermans et al. (2020), arXiv:1903.04057, Algorithm 1, for the pairs.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.networks import Stack
from sbi_aalr.sampling.log_prior import LogPrior, find_transform
from sbi_aalr.sampling.truncated_prior import TruncatedPrior
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.trainer.bases import wrap_base
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.training.assemble import LEAST_HELD_OUT, Assembled, assemble
from sbi_aalr.training.classifiers import NamedBuilder, build_network
from sbi_aalr.training.contrasts import Pool
from sbi_aalr.training.density_loss import DensityLoss
from sbi_aalr.training.history import History
from sbi_aalr.training.loop import fit
from sbi_aalr.training.members import (
    Materials,
    Member,
    build_member,
    list_members,
)
from sbi_aalr.training.passes import Passes
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.training.recipe import Entry, Recipe, TrainingSettings

# Passes without a better held-out loss after which a density is as good as it gets.
_PATIENCE = 12
# Of a time limit, what is kept for the stack: a share, and no more than these seconds.
_STACK_SHARE, _STACK_SECONDS = 0.5, 15.0


class Source(NamedTuple):
    """Where the simulations of a fit are.

    Attributes:
        open: Batch size -> passes to train on, and held-out batches.
        training: All pairs that are trained on, once there are any.
        held_out: All pairs that are not.
    """

    open: Callable[[int], tuple[Passes, Iterable[Batch]]]
    training: Callable[[], tuple[Tensor, Tensor]]
    held_out: Callable[[], tuple[Tensor, Tensor]]


class Structure(NamedTuple):
    """A structure of the trainer's: what it is, and its estimator.

    Attributes:
        member: What it is; None for the towers.
        estimator: The estimator.
    """

    member: Member | None
    estimator: RatioEstimator


def uses_base(trainer: SbiTrainer) -> bool:
    """Whether the trainer fits densities besides its network.

    They need the prior, and the towers to be stacked with. Whoever names another
    network, or a loss, wants that and no other.
    """
    builder = trainer._build_neural_net
    is_default = isinstance(builder, NamedBuilder) and builder.name == "two_towers"
    is_free = is_default and trainer._ratio_loss is None
    return trainer._base is not None and trainer._prior is not None and is_free


def begin_structures(
    trainer: SbiTrainer, theta: Tensor, x: Tensor, entry: Entry, num_simulations: int
) -> None:
    """Give the trainer new structures, built from first rows."""
    prior: Any = trainer._prior
    prior = prior.prior if isinstance(prior, TruncatedPrior) else prior
    net = trainer._embedding_net_x
    materials = Materials(find_transform(prior), LogPrior(prior), net)
    base, trials = trainer._base, trainer._exchangeable
    name = base if isinstance(base, str) else "auto"
    members = list_members(name, num_simulations, theta, x, net is not None, trials)
    structures = [
        Structure(member, build_member(member, materials, theta, x).to(trainer._device))
        for member in members
    ]
    if not isinstance(base, str):
        given = Member("given_density", {}, None)
        estimator = wrap_base(base, prior, theta, x).to(trainer._device)
        structures.append(Structure(given, estimator))
    towers = build_network(trainer._build_neural_net, theta, x, entry)
    structures.append(Structure(None, towers.to(trainer._device)))
    trainer._structures = structures


def fit_structures(
    trainer: SbiTrainer,
    source: Source,
    recipe: Recipe,
    settings: TrainingSettings,
    *,
    started: float,
    stop_after: int | None,
    most_passes: int | None,
) -> History:
    """Fit the trainer's structures and stack them.

    Args:
        trainer: Whose structures to fit.
        source: Where the simulations are.
        recipe: How the towers are trained.
        settings: What the user set.
        started: When the time began to run, by `time.perf_counter`.
        stop_after: Passes without a better held-out loss after which the towers end.
        most_passes: Passes after which each ends in any case.

    Returns:
        The history of the towers, or of the structure that was interrupted.
    """
    trainer._truncated_prior = None
    structures: list[Structure] = trainer._structures or []
    histories: list[History | None] = []
    history: History | None = None
    trained = [s for s in structures if s.member is None or s.member.recipe]
    left = len(trained)
    for structure in structures:
        own = _choose(structure, recipe, settings, most_passes)
        if own is None or (history is not None and history.interruption is not None):
            histories.append(None)
            continue
        passes, held_out = source.open(own.batch_size)
        limit = None
        if settings.time_limit is not None:
            kept = min(_STACK_SHARE * settings.time_limit, _STACK_SECONDS)
            spent = time.perf_counter() - started
            limit = max(1e-9, (settings.time_limit - kept - spent) / left)
        is_tower = structure.member is None
        batches = list(held_out) if isinstance(held_out, list) else held_out
        try:
            history = fit(
                structure.estimator,
                passes,
                recipe=own,
                loss=RatioLoss() if is_tower else DensityLoss(),
                clip_max_norm=settings.clip_max_norm,
                time_limit=limit,
                held_out=batches or None,
                stop_after=stop_after if is_tower else _shorter(stop_after, _PATIENCE),
                show_progress_bars=trainer._show_progress_bars,
            )
        except KeyboardInterrupt as error:
            # Before the first step; what was fitted before is of use.
            if history is None:
                raise
            history = history._replace(interruption=error)
            histories.append(None)
            continue
        histories.append(history)
        left -= 1
    if history is None or not any(h is not None and h.losses for h in histories):
        raise ValueError(
            "`time_limit` must be long enough to simulate and to take one step, got "
            f"{settings.time_limit}, which were over before. Give more seconds."
        )
    done = [
        (h is not None and bool(h.losses))
        or (s.member is not None and not s.member.recipe)
        for s, h in zip(structures, histories, strict=True)
    ]
    remaining = None
    if settings.time_limit is not None:
        remaining = settings.time_limit - (time.perf_counter() - started)
    try:
        assembled = _stack(trainer, source, done, remaining)
    except KeyboardInterrupt as error:
        fitted = [s for s, is_done in zip(structures, done, strict=True) if is_done]
        trainer._neural_net, assembled = fitted[-1].estimator.eval(), None
        history = history._replace(interruption=error)
    _describe(trainer, assembled, histories, recipe, started)
    return history


def _choose(
    structure: Structure,
    recipe: Recipe,
    settings: TrainingSettings,
    most_passes: int | None,
) -> Recipe | None:
    """How to train a structure; None for a closed form."""
    if structure.member is None:
        return recipe
    own = structure.member.recipe
    if own is None:
        return None
    limits = [n for n in (own.num_passes, most_passes) if n is not None]
    return own._replace(
        batch_size=settings.batch_size or own.batch_size,
        learning_rate=settings.learning_rate or own.learning_rate,
        num_passes=min(limits, default=None),
    )


def _shorter(stop_after: int | None, usual: int) -> int:
    return usual if stop_after is None else min(stop_after, usual)


def _stack(
    trainer: SbiTrainer, source: Source, done: list[bool], seconds: float | None
) -> Assembled | None:
    """Put the stack in the place of the trainer's estimator."""
    everything: list[Structure] = trainer._structures or []
    structures = [s for s, is_done in zip(everything, done, strict=True) if is_done]
    held_out = source.held_out()
    estimators = [s.estimator.eval() for s in structures]
    if len(held_out[0]) < LEAST_HELD_OUT:
        trainer._neural_net = estimators[-1]
        return None
    base = trainer._base
    usable = [
        base != "likelihood"
        or s.member is None
        or s.member.name == "likelihood_mixture"
        for s in structures
    ]
    training = source.training()
    device = held_out[1].device
    seed = int(torch.randint(2**31, ()))
    assembled = assemble(
        estimators,
        usable,
        Pool(training[0], trainer._cut, trainer._cut_log_share),
        held_out,
        training,
        torch.Generator(device).manual_seed(seed),
        seconds,
    )
    trainer._neural_net = assembled.stack
    return assembled


def _describe(
    trainer: SbiTrainer,
    assembled: Assembled | None,
    histories: list[History | None],
    recipe: Recipe,
    started: float,
) -> None:
    """Write into the summary what was tried, and what was chosen."""
    tried = []
    places = iter(range(len(histories)))
    structures: list[Structure] = trainer._structures or []
    for structure, history in zip(structures, histories, strict=True):
        member = structure.member
        is_closed = member is not None and member.recipe is None
        is_done = is_closed or (history is not None and bool(history.losses))
        entry: dict[str, Any] = {
            "structure": "two_towers" if member is None else member.name,
            "settings": getattr(structure.estimator, "classifier_settings", None),
            "num_weights": sum(p.numel() for p in structure.estimator.parameters()),
        }
        if history is not None:
            entry["num_passes"] = len(history.pass_losses)
            entry["seconds"] = history.seconds
        if is_done and assembled is not None:
            place = next(places)
            entry["weight"] = float(assembled.weights[place])
            entry["held_out_loss"] = float(assembled.losses[place])
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
    trainer._tracker.log_params(chosen)
