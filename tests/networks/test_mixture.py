"""Mixtures of Gaussians: the density is the one they say, whichever way it is found."""

import math

import pytest
import torch
from torch import distributions as d

from sbi_aalr.networks import mixture
from sbi_aalr.networks.density import component_weights
from sbi_aalr.networks.mixture import Components, MixtureHead, MixtureLayer, pack

SIDES = ("posterior", "likelihood")
SHAPES = [(1, 1), (1, 5), (2, 1), (2, 3), (4, 2)]
FEATURES = 6


def make_parts(dim, num_components, num_rows=7, seed=1, log_volume=0.0, size=1.0):
    """Targets with an offset, and packed components of as many conditions."""
    torch.manual_seed(seed)
    layer = MixtureLayer(FEATURES, dim, num_components, torch.tensor(log_volume))
    torch.nn.init.normal_(layer.linear.weight, std=size * FEATURES**-0.5)
    torch.nn.init.normal_(layer.linear.bias, std=0.5)
    condition = layer(torch.randn(num_rows, FEATURES), torch.randn(num_rows, dim))
    return torch.randn(num_rows, dim + 1), condition.detach()


def make_head(dim, num_components, side="posterior"):
    return MixtureHead(dim, num_components, side)


def as_torch(components):
    """The same mixture by torch's own distributions, in float64."""
    factor, mean = components.factor.double(), components.middle.double()
    precision = factor.mT @ factor
    weights = component_weights(components)
    return d.MixtureSameFamily(
        d.Categorical(probs=weights.double()),
        d.MultivariateNormal(mean, precision_matrix=precision),
    )


def evaluate(head, target, condition):
    parts = (target, condition) if head.side == "posterior" else (condition, target)
    return head(torch.cat(parts, dim=1))[:, 0], parts


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("dim", "num_components"), SHAPES)
def test_log_density_is_that_of_torch(dim, num_components, side):
    head = make_head(dim, num_components, side)
    target, condition = make_parts(dim, num_components)
    expected = as_torch(head.unpack(condition)).log_prob(target[:, :-1].double())
    found, _ = evaluate(head, target, condition)
    torch.testing.assert_close(
        found.double(), expected + target[:, -1], atol=1e-4, rtol=1e-4
    )
    # The control: each density belongs to its own condition.
    other, _ = evaluate(head, target, condition.roll(1, dims=0))
    assert (other - found).abs().max() > 0.1


@pytest.mark.parametrize(("dim", "num_components"), [(1, 1), (1, 5), (2, 3)])
def test_density_integrates_to_one(dim, num_components):
    log_volume = 0.7
    _, condition = make_parts(dim, num_components, 3, log_volume=log_volume)
    line = torch.linspace(-40, 40, 8_001 if dim == 1 else 401)
    grid = torch.cartesian_prod(*[line] * dim).reshape(-1, dim)
    rows = torch.nn.functional.pad(grid, (0, 1))
    with torch.no_grad():
        log_density = make_head(dim, num_components).all_pairs(rows, condition)
    step = float(line[1] - line[0]) ** dim
    total = log_density.double().exp().sum(dim=0) * step
    # Coordinates were stretched by this much.
    expected = torch.full_like(total, math.exp(log_volume))
    torch.testing.assert_close(total, expected, rtol=5e-3, atol=0)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("dim", "num_components"), SHAPES)
def test_all_pairs_are_the_pairs_row_by_row(dim, num_components, side):
    head = make_head(dim, num_components, side)
    target, condition = make_parts(dim, num_components)
    target = target[:5]
    _, (theta, x) = evaluate(head, target, condition[:5])
    theta = condition if side == "likelihood" else theta
    x = condition if side == "posterior" else x
    pairs = head.all_pairs(theta, x)
    assert pairs.shape == (len(theta), len(x))
    rows = torch.cat(
        (theta.repeat_interleave(len(x), dim=0), x.repeat(len(theta), 1)), dim=1
    )
    expected = head(rows).reshape(pairs.shape)
    torch.testing.assert_close(pairs, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("most", [1, 50, 100])
def test_blocks_give_what_one_product_gives(side, most, monkeypatch):
    head = make_head(2, 3, side)
    target, condition = make_parts(2, 3, num_rows=9)
    theta, x = (target, condition) if side == "posterior" else (condition, target)
    with torch.enable_grad():
        whole = head.all_pairs(theta, x)
    monkeypatch.setitem(mixture._BLOCK_ENTRIES, "cpu", most)
    with torch.no_grad():
        torch.testing.assert_close(head.all_pairs(theta, x), whole)
        torch.testing.assert_close(head.all_pairs(theta[:1], x), whole[:1])


@pytest.mark.parametrize("side", SIDES)
@torch.no_grad()
def test_no_rows_give_no_pairs(side):
    head = make_head(2, 3, side)
    target, condition = make_parts(2, 3, num_rows=4)
    theta, x = (target, condition) if side == "posterior" else (condition, target)
    assert head.all_pairs(theta[:0], x).shape == (0, 4)
    assert head.all_pairs(theta, x[:0]).shape == (4, 0)


def test_rows_keep_their_leading_dimensions():
    head = make_head(2, 3)
    target, condition = make_parts(2, 3, num_rows=6)
    flat = torch.cat((target, condition), dim=1)
    assert torch.equal(head(flat.reshape(2, 3, -1)), head(flat).reshape(2, 3, 1))


@pytest.mark.parametrize("side", SIDES)
def test_residuals_are_standard_normal_under_the_density(side):
    torch.manual_seed(2)
    head = make_head(2, 1, side)
    _, condition = make_parts(2, 1, num_rows=1)
    draws = as_torch(head.unpack(condition)).sample((20_000,))[:, 0].float()
    target = torch.nn.functional.pad(draws, (0, 1))
    rows = condition.expand(len(target), -1)
    theta, x = (target, rows) if side == "posterior" else (rows, target)
    residuals = head.residuals(theta, x)
    assert residuals.shape == (20_000, 2)
    assert residuals.mean(dim=0).abs().max() < 5 / 20_000**0.5
    assert (residuals.T.cov() - torch.eye(2)).abs().max() < 5 * (2 / 20_000) ** 0.5


def test_residuals_of_several_components_lie_side_by_side():
    head = make_head(3, 4)
    target, condition = make_parts(3, 4)
    residuals = head.residuals(target, condition).unflatten(1, (4, 3))
    components = head.unpack(condition)
    torch.testing.assert_close(
        head(torch.cat((target, condition), dim=1))[:, 0],
        (components.height - residuals.square().sum(dim=2) / 2).logsumexp(dim=1)
        + target[:, -1],
    )


def test_packed_components_come_back():
    torch.manual_seed(3)
    components = Components(
        *(torch.randn(shape) for shape in ((5, 3), (5, 3, 2), (5, 3, 2), (5, 3, 1)))
    )
    found = make_head(2, 3).unpack(pack(components))
    assert all(map(torch.equal, found, components))


def test_gradient_is_that_of_torch():
    head, (target, condition) = make_head(2, 3), make_parts(2, 3)
    target.requires_grad_()
    evaluate(head, target, condition)[0].sum().backward()
    again = target.detach()[:, :-1].double().requires_grad_()
    as_torch(head.unpack(condition)).log_prob(again).sum().backward()
    torch.testing.assert_close(
        target.grad[:, :-1].double(), again.grad, atol=1e-3, rtol=1e-3
    )


def test_gradients_reach_every_weight_of_the_layer():
    torch.manual_seed(4)
    layer, head = MixtureLayer(FEATURES, 2, 3, torch.tensor(0.0)), make_head(2, 3)
    condition = layer(torch.randn(50, FEATURES), torch.randn(50, 2))
    head(torch.cat((torch.randn(50, 3), condition), dim=1)).mean().backward()
    for parameter in layer.parameters():
        assert torch.isfinite(parameter.grad).all()
        assert (parameter.grad.flatten(1) if parameter.ndim > 1 else parameter.grad).ne(
            0
        ).sum() > 0.9 * parameter.numel()


def test_first_components_ignore_the_features_and_stand_around_the_regression():
    torch.manual_seed(5)
    layer, head = MixtureLayer(FEATURES, 2, 1, torch.tensor(0.0)), make_head(2, 1)
    middle = torch.randn(4, 2)
    found = head.unpack(layer(torch.zeros(4, FEATURES), middle))
    torch.testing.assert_close(found.middle[:, 0], middle)
    torch.testing.assert_close(found.factor[:, 0], torch.eye(2).expand(4, 2, 2))
    expected = torch.full((4, 1), -math.log(2 * math.pi))
    torch.testing.assert_close(found.height, expected)


def test_wild_features_leave_all_finite():
    target, condition = make_parts(2, 3, size=1e4)
    assert torch.isfinite(condition).all()
    pairs = make_head(2, 3).all_pairs(target, condition)
    assert torch.isfinite(pairs).all()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, 1, "posterior"), "num_dims"), ((1, 0, "posterior"), "num_components")],
)
def test_counts_must_be_positive(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        MixtureHead(*arguments)
    with pytest.raises(ValueError, match="`side`"):
        MixtureHead(1, 1, "prior")
