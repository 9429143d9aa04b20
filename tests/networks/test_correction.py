"""The correction of a stack: nothing at first, and the same for pairs as for rows."""

import pytest
import torch
from exact_ratios import make_posterior_density
from linear_gaussian import draw_pairs
from torch import nn

from sbi_aalr.networks import Stack, likelihood_mixture
from sbi_aalr.networks.correction import Correction, CorrectionInput
from sbi_aalr.networks.pairs import fix_observations
from sbi_aalr.networks.stack import Mended

THETA, _, X = draw_pairs(200, seed=1)


def make_members():
    torch.manual_seed(1)
    return [make_posterior_density(200), likelihood_mixture(2, 8)(THETA, X).eval()]


def make_stacks(is_fitted):
    """A stack with a correction, and the same without."""
    members, weights = make_members(), torch.tensor([0.7, 0.4])
    heads = [member.net for member in members]
    mended = Mended(CorrectionInput(THETA), CorrectionInput(X), Correction(heads))
    if is_fitted:
        nn.init.normal_(mended.head.last.weight, std=0.3)
    return Stack(members, weights, mended=mended), Stack(members, weights)


@torch.no_grad()
def test_correction_is_zero_at_first_and_added_later():
    mended, plain = make_stacks(is_fitted=False)
    torch.testing.assert_close(mended(THETA, X), plain(THETA, X))
    mended, plain = make_stacks(is_fitted=True)
    assert (mended(THETA, X) - plain(THETA, X)).std() > 0.01


@pytest.mark.parametrize("num_x", [1, 5])
@torch.no_grad()
def test_all_pairs_are_rows(num_x):
    stack, _ = make_stacks(is_fitted=True)
    x = X[:num_x]
    pairs = fix_observations(stack, x)(THETA[:7])
    assert pairs.shape == (7, num_x)
    rows = stack(THETA[:7].repeat_interleave(num_x, dim=0), x.repeat(7, 1))
    torch.testing.assert_close(pairs.flatten(), rows, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_no_data_give_no_pairs():
    stack, _ = make_stacks(is_fitted=True)
    assert fix_observations(stack, X[:0])(THETA[:7]).shape == (7, 0)
