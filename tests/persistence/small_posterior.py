"""A small posterior to save, and all that a saved one means."""

from pathlib import Path

import torch
from linear_gaussian import PRIOR, X_O, draw_pairs

from sbi_aalr import MHPosterior
from sbi_aalr.networks.ensemble import average_log_ratios
from sbi_aalr.training.classifiers import NamedBuilder

WEIGHTS, SETTINGS = "posterior.safetensors", "posterior.json"
OLD = Path(__file__).with_name("written_by_0_1_0")
SMALL = {"hidden_features": 8, "num_blocks": 1, "dropout": 0.1, "num_octaves": 2}
ROWS = draw_pairs(50, seed=1)
THETA = ROWS[0][:20]


def make(seed, prior=PRIOR):
    """A posterior of two small networks that nobody trained."""
    torch.manual_seed(seed)
    members = [NamedBuilder("two_towers", SMALL)(*ROWS) for _ in range(2)]
    posterior = MHPosterior.from_estimator(average_log_ratios(members), prior)
    return posterior.set_default_x(X_O)


def describe(folder):
    """All that a folder means: what is drawn follows from this."""
    posterior = MHPosterior.load(folder)
    prior = posterior.potential_fn.prior
    return (
        posterior.parameters,
        posterior.default_x.tolist(),
        posterior.potential(THETA).tolist(),
        prior.log_prob(THETA).tolist(),
        [part.tolist() for part in posterior.potential_fn.ratio_estimator.parameters()],
    )
