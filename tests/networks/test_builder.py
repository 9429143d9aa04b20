"""What builders say about wrong arguments, and what they build in any mode of torch."""

import math
from functools import partial

import pytest
import torch
from linear_gaussian import PRIOR
from torch import nn

from sbi_aalr import networks
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.prior_transform import find_transform

BUILDERS = (networks.two_towers, networks.residual_mlp, networks.mlp)
POSITIVE = (0, -1, 2.5, True, "8", math.nan, None)
BAD_ARGUMENTS = [
    *[(b, {"hidden_features": v}) for b in BUILDERS[:2] for v in POSITIVE],
    *[(b, {"num_blocks": v}) for b in BUILDERS[:2] for v in POSITIVE],
    *[
        (b, {"dropout": v})
        for b in BUILDERS[:2]
        for v in (math.nan, -0.1, 1.0, math.inf, True, "0.5", None)
    ],
    *[(networks.two_towers, {"num_octaves": v}) for v in (-1, 1.5, True, "3", None)],
    *[
        (networks.mlp, {"hidden_features": v})
        for v in ([0], [8, -1], [8.0], [True], ["8"], "8", 8, 8.0, None, {8})
    ],
    *[
        (b, {f"embedding_net_{part}": v})
        for b in BUILDERS
        for part in ("theta", "x")
        for v in (3, "net", nn.Linear, torch.relu)
    ],
]


@pytest.mark.parametrize(("builder", "settings"), BAD_ARGUMENTS)
def test_wrong_arguments_are_named(builder, settings):
    ((name, value),) = settings.items()
    with pytest.raises((TypeError, ValueError), match=f"`{name}` must be") as caught:
        builder(**settings)
    is_value = isinstance(value, int | float) and not isinstance(value, bool)
    if name in ("dropout", "num_blocks") and is_value:
        is_float_for_int = name == "num_blocks" and isinstance(value, float)
        assert isinstance(caught.value, TypeError if is_float_for_int else ValueError)


@pytest.mark.parametrize("part", ["Encode", "GatedBlock", "SeparableHead"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True, "8"])
def test_parts_check_their_size(part, value):
    with pytest.raises((TypeError, ValueError), match="must be a positive int"):
        getattr(networks, part)(value)


@pytest.mark.parametrize(
    ("theta", "x", "error", "message"),
    [
        ([[1.0]], torch.ones(1, 1), TypeError, "`theta` must be a torch tensor.*list"),
        (torch.ones(4), torch.ones(4, 1), ValueError, r"`theta` must have .*\(4,\)"),
        (torch.ones(4, 1), torch.ones(0, 1), ValueError, r"`x` must have .*\(0, 1\)"),
        (torch.ones(4, 1), 1j * torch.ones(4, 1), TypeError, "`x` must be real"),
    ],
)
def test_wrong_rows_are_named(theta, x, error, message):
    with pytest.raises(error, match=message):
        networks.mlp((4,))(theta, x)


def test_embedding_net_that_mixes_rows_is_named():
    build = networks.mlp((4,), embedding_net_x=nn.Flatten(0))
    with pytest.raises(ValueError, match=r"one row of features .* for 2 rows"):
        build(torch.ones(4, 1), torch.ones(4, 3))


def test_embedding_net_of_another_size_is_named():
    build = networks.mlp((4,), embedding_net_x=nn.Linear(10, 4))
    with pytest.raises(ValueError, match=r"must take rows of shape \(3,\), but of two"):
        build(torch.ones(4, 1), torch.ones(4, 3))


BUILDERS_WITH_NETS = [
    partial(networks.mlp, (4,)),
    networks.two_towers,
    networks.residual_mlp,
    partial(networks.posterior_mixture, find_transform(PRIOR), LogPrior(PRIOR)),
]


class OverRows(nn.Module):
    """Centres by the rows that happen to be there, or scales, or adds noise."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        return self.how(x)


@pytest.mark.parametrize(
    "how",
    [
        lambda x: x - x.mean(dim=0),
        lambda x: x / x.std(dim=0),
        lambda x: x + 0.1 * torch.randn_like(x),
    ],
)
@pytest.mark.filterwarnings("ignore:std")
def test_embedding_net_that_looks_at_other_rows_is_refused(how):
    torch.manual_seed(0)
    theta, x = PRIOR.sample((200,)), 10 + torch.randn(200, 3)
    for builder in BUILDERS_WITH_NETS:
        with pytest.raises(ValueError, match="the same features every time"):
            builder(embedding_net_x=OverRows(how))(theta, x)
        # Those of torch do so in training alone.
        builder(embedding_net_x=nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()))(
            theta, x
        )


@pytest.mark.parametrize("net", [nn.LSTM(3, 4), OverRows(lambda x: [x])])
def test_embedding_net_that_gives_no_tensor_is_named(net):
    theta, x = PRIOR.sample((20,)), torch.randn(20, 3)
    for builder in BUILDERS_WITH_NETS:
        with pytest.raises(TypeError, match=r"must give a tensor.* got (tuple|list)"):
            builder(embedding_net_x=net)(theta, x)


class Root(nn.Module):
    def forward(self, x):
        return x.sqrt()


@pytest.mark.parametrize("builder", BUILDERS_WITH_NETS)
def test_embedding_net_that_gives_nan_is_told_that_data_are_scaled(builder):
    """Positive data, of which roots would do, were they not scaled."""
    torch.manual_seed(0)
    theta, x = PRIOR.sample((200,)), 10 + torch.randn(200, 3)
    message = r"NaN or infinity for \d+ of 64 rows. It is given scaled data"
    with pytest.raises(ValueError, match=message):
        builder(embedding_net_x=Root())(theta, x)
    builder(embedding_net_x=nn.Identity())(theta, x)


@pytest.fixture
def float64_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(builder):
    torch.manual_seed(0)
    theta, x = torch.randn(20, 2, dtype=torch.float32), torch.ones(20, 3)
    return builder(theta, x.float()), theta, x.float()


@pytest.mark.parametrize("builder", BUILDERS)
def test_networks_are_the_same_whatever_the_default_dtype(builder, request):
    expected, theta, x = build(builder())
    request.getfixturevalue("float64_default")
    embedding_net = nn.Linear(3, 3)
    found, _, _ = build(builder())
    assert torch.equal(found(theta, x), expected(theta, x))
    with_net, _, _ = build(builder(embedding_net_x=embedding_net))
    assert with_net(theta, x).dtype == torch.float32
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.parametrize("builder", BUILDERS)
def test_networks_built_in_inference_mode_can_be_trained(builder):
    with torch.inference_mode():
        estimator, theta, x = build(builder())
    estimator(theta.clone(), x.clone()).sum().backward()
    assert any(weight.grad.any() for weight in estimator.parameters())
