"""Stacks of members that nobody trained, to be saved and loaded."""

import torch
from linear_gaussian import PRIOR, X_O, draw_pairs
from torch import nn

from sbi_aalr import MHPosterior
from sbi_aalr.networks import Stack
from sbi_aalr.networks.correction import Correction, CorrectionInput
from sbi_aalr.networks.stack import Mended, Offset
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.prior_transform import find_transform
from sbi_aalr.training.classifiers import NamedBuilder
from sbi_aalr.training.members import Materials, Member, build_member

THETA, _, X = draw_pairs(60, seed=1)
# What the members are, by what a stack of them is saved for.
KINDS = {
    "posterior": ("posterior_mixture", {"num_components": 3, "hidden_features": 8}),
    "closed": ("posterior_mixture", {"num_components": 1, "hidden_features": 0}),
    "likelihood": ("likelihood_mixture", {"num_components": 2, "hidden_features": 8}),
}


def build(name, prior=PRIOR, x=X, seed=1):
    torch.manual_seed(seed)
    theta = THETA.clamp(-2.9, 2.9)
    if name == "towers":
        settings = {"hidden_features": 8, "num_blocks": 1}
        return NamedBuilder("two_towers", settings)(theta, x).eval()
    materials = Materials(find_transform(prior), LogPrior(prior))
    return build_member(Member(*KINDS[name], None), materials, theta, x).eval()


def make_correction(members, x):
    mended = Mended(
        CorrectionInput(THETA),
        CorrectionInput(x),
        Correction([member.net for member in members]),
    )
    for parameter in nn.ModuleList(mended).parameters():
        nn.init.normal_(parameter, std=0.1)
    return mended


def make(*names, proposal=None, offset=True, mended=False, prior=PRIOR, x=X, seed=1):
    """A stack of members that nobody trained; the proposal may be one more."""
    members = [build(name, prior, x, seed) for name in names]
    weights = torch.linspace(0.5, 1.5, len(members))
    chosen = None
    if isinstance(proposal, int):
        chosen = members[proposal]
    elif proposal is not None:
        chosen = build(proposal, prior, x, seed + 1)
    net = None
    if offset:
        net = Offset(x)
        nn.init.normal_(net.last.weight)
    correction = make_correction(members, x) if mended else None
    return Stack(members, weights, net, chosen, correction)


def save(folder, estimator, prior=PRIOR):
    posterior = MHPosterior.from_estimator(estimator, prior).set_default_x(X_O)
    posterior.save(folder)
    return posterior
