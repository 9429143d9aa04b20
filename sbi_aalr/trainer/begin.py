"""The structures that a fit of the default recipe begins with."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.networks.coordinates import ThetaCoordinates
from sbi_aalr.networks.given_density import GIVEN_DENSITY
from sbi_aalr.networks.trials import build_without_order
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.prior_transform import find_transform
from sbi_aalr.sampling.truncated_prior import take_off_cuts
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.trainer.simulations import correct_prior
from sbi_aalr.trainer.stacking import Structure
from sbi_aalr.training.bases import wrap_base
from sbi_aalr.training.classifiers import NamedBuilder, build_network
from sbi_aalr.training.members import Materials, Member, build_member, list_members
from sbi_aalr.training.recipe import Entry


def uses_base(trainer: SbiTrainer) -> bool:
    """Whether the trainer fits densities besides its network.

    They need the prior, and the towers to be stacked with. Whoever names another
    network, or a loss, wants that and no other.
    """
    builder = trainer._build_neural_net
    is_default = isinstance(builder, NamedBuilder) and builder.name == "two_towers"
    is_free = is_default and trainer._ratio_loss is None
    return trainer._base is not None and trainer._prior is not None and is_free


def check_use(trainer: SbiTrainer) -> None:
    """Raise if a base was asked for that would not be used."""
    base = trainer._base
    if base in (None, "auto") or uses_base(trainer):
        return
    given = repr(base) if isinstance(base, str) else "a density"
    if trainer._prior is None:
        rule, remedy = "needs `prior`, which is divided by", "Pass the prior"
    else:
        rule = "is for the default `classifier` and `loss`, with which it is stacked"
        remedy = "Leave those out"
    raise ValueError(f"`base` {rule}, got {given}. {remedy}, or `base=None`.")


def begin_structures(
    trainer: SbiTrainer, theta: Tensor, x: Tensor, entry: Entry, num_simulations: int
) -> None:
    """Give the trainer new structures, built from first rows."""
    prior = _find_prior(trainer)
    net = trainer._embedding_net_x
    materials = Materials(find_transform(prior), LogPrior(prior), net)
    base, trials = trainer._base, trainer._exchangeable
    name = base if isinstance(base, str) else "auto"

    structures: list[Structure] = []

    def offer(count: int, rows: tuple[Tensor, Tensor], sees_all: bool) -> None:
        for member in list_members(name, count, *rows, net is not None, trials):
            if sees_all and member.name != "likelihood_mixture":
                continue
            density = _build(trainer, partial(build_member, member, materials), *rows)
            structures.append(Structure(member, density, sees_all))

    if trainer._cut_off is not None:
        # How data follow from theta does not depend on how often a theta comes.
        pairs = zip((theta, x), trainer._cut_off, strict=True)
        every_theta, every_x = (torch.cat(pair) for pair in pairs)
        count = num_simulations + len(trainer._cut_off[0])
        offer(count, (every_theta, every_x), sees_all=True)
    offer(num_simulations, (theta, x), sees_all=False)
    if not isinstance(base, str):
        estimator: Any = wrap_base(base, materials.log_prior, theta, x)
        given = Member(GIVEN_DENSITY, estimator.classifier_settings, None)
        structures.append(Structure(given, estimator.to(trainer._device)))
    structures.append(Structure(None, begin_network(trainer, theta, x, entry)))
    trainer._structures = structures


def begin_network(
    trainer: SbiTrainer, theta: Tensor, x: Tensor, entry: Entry
) -> RatioEstimator:
    """Build a new network of the trainer's kind from first rows."""
    build = partial(build_network, trainer._build_neural_net, entry=entry)
    return _build(trainer, build, theta, x)


def _build(
    trainer: SbiTrainer,
    build: Callable[[Tensor, Tensor], RatioEstimator],
    theta: Tensor,
    x: Tensor,
) -> RatioEstimator:
    if not trainer._exchangeable:
        return build(theta, x).to(trainer._device)
    if x.ndim != 3:
        raise ValueError(
            "`exchangeable` must be False unless data are T trials of E numbers each, "
            f"(N, T, E), got data of shape {tuple(x.shape)}. Give a single number a "
            "last dimension: `x.unsqueeze(-1)`."
        )
    return build_without_order(build, theta, x).to(trainer._device)


def correct_densities(trainer: SbiTrainer) -> None:
    """Have densities divided by the prior of what succeeds in the trainer's fit.

    What is left after failures were left out follows that one, and so do densities that
    were fitted to it; see `sbi_aalr.sampling.validity`.
    """
    log_prior = LogPrior(_find_prior(trainer))
    for structure in trainer._structures or []:
        coordinates = structure.estimator.embedding_net_theta
        if isinstance(coordinates, ThetaCoordinates):
            coordinates.log_prior = log_prior


def _find_prior(trainer: SbiTrainer) -> Any:
    """The prior that the trainer's simulations were drawn from, cuts aside."""
    return correct_prior(trainer, take_off_cuts(trainer._prior))
