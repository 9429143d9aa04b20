"""What holds for any shape, dtype and order: drawn by hypothesis, always the same."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from linear_gaussian import PRIOR, SHORT, X_O, log_ratio
from sbi.utils import BoxUniform

from sbi_aalr import MHPosterior
from sbi_aalr.diagnostics import measure_convergence, to_datatree
from sbi_aalr.files import write_datatree
from sbi_aalr.mcmc import Chains
from sbi_aalr.training.classifiers import NamedBuilder

FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
SMALL = {"hidden_features": 8, "num_blocks": 1, "dropout": 0.0, "num_octaves": 2}
SHAPES = st.lists(st.integers(1, 6), max_size=3).map(tuple)
FORMS = st.sampled_from(
    [
        lambda x: x,
        lambda x: x.double(),
        lambda x: x.half(),
        lambda x: x.clone().requires_grad_(),
        lambda x: x.numpy(),
        lambda x: x.numpy().astype(np.float64),
        lambda x: x.tolist(),
        lambda x: torch.stack((x, x), dim=-1)[..., 0],
    ]
)
NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\x00"),
    min_size=1,
    max_size=12,
)


def make_posterior(dim):
    """Exact posteriors of `theta ~ U(-3, 3)`, `x = theta + noise`."""
    prior = BoxUniform(-3 * torch.ones(dim), 3 * torch.ones(dim))

    def log_posterior(theta, x_o):
        inside = (theta.abs() <= 3).all(dim=1)
        return (-((theta - x_o) ** 2).sum(1)).masked_fill(~inside, -torch.inf)

    return MHPosterior(log_posterior, prior)


@FEW
@given(SHAPES, FORMS, st.integers(1, 4))
def test_sample_has_the_shape_asked_for_whatever_form_x_has(shape, form, dim):
    posterior = make_posterior(dim)
    x = form(torch.linspace(-1, 1, dim))
    draws = posterior.sample(shape, x=x, seed=1, **SHORT)
    assert draws.shape == (*shape, dim) and draws.dtype == torch.float32
    assert (draws.abs() <= 3).all()
    plain = posterior.sample(shape, x=torch.linspace(-1, 1, dim), seed=1, **SHORT)
    torch.testing.assert_close(draws, plain, rtol=0.05, atol=0.05)


@FEW
@given(SHAPES, FORMS, st.permutations(range(5)))
def test_batched_draws_keep_the_order_of_observations(shape, form, order):
    posterior = make_posterior(2)
    x = 6.0 * torch.arange(5)[list(order), None].repeat(1, 2) / 5 - 2.4
    longer = {**SHORT, "warmup_steps": 60, "num_chains": 20}
    draws = posterior.sample_batched(shape, form(x), seed=1, **longer)
    assert draws.shape == (*shape, 5, 2)
    mean = posterior.chains.theta.mean(dim=(0, 1, 3))
    assert mean.argsort().tolist() == x[:, 0].argsort().tolist()
    observed = posterior.to_datatree()["observed_data"]["x"].values
    np.testing.assert_allclose(observed, x.numpy(), atol=1e-2)


@FEW
@given(
    st.tuples(*[st.integers(1, 5)] * 2, st.integers(1, 3), st.integers(1, 4)),
    st.sampled_from([torch.float32, torch.float64]),
    st.lists(NAMES, min_size=4, max_size=4, unique=True),
    st.booleans(),
)
def test_chains_come_back_from_a_file_as_they_went(sizes, dtype, names, is_batch):
    chains, draws, observations, width = sizes
    observations = observations if is_batch else 1
    theta = torch.randn(chains, draws, observations, width, dtype=dtype)
    log_prob = theta.sum(dim=-1)
    tree = to_datatree(
        Chains(theta, log_prob, log_prob, log_prob > 0),
        observed_data=torch.zeros(observations, 3),
        parameter_names=names[:width],
        batched=is_batch,
    )
    with TemporaryDirectory() as folder:
        path = write_datatree(Path(folder) / "chains.nc", tree)
        with xr.open_datatree(path) as read:
            values = read["posterior"]["theta"].load()
            assert [str(name) for name in values["parameter"].values] == names[:width]
            expected = theta if is_batch else theta[:, :, 0]
            assert np.array_equal(values.values, expected.numpy())
            measured = measure_convergence(read)
    assert measured["r_hat"].dims[-1] == "parameter"


@FEW
@given(
    st.integers(1, 4),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from(["two_towers", "selu_mlp", "residual_mlp", "linear"]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_saved_posterior_is_the_one_that_was_saved(dim, event, name, dtype):
    prior = BoxUniform(torch.zeros(dim, dtype=dtype).float() - 1, torch.ones(dim))
    theta, x = prior.sample((20,)), torch.randn(20, *event)
    chosen = {"two_towers": SMALL}.get(name)
    if name == "linear":
        x = x.flatten(1)
    estimator = NamedBuilder(name, chosen)(theta, x).eval()
    posterior = MHPosterior.from_estimator(estimator, prior, num_chains=5)
    posterior.set_default_x(x[0])
    with TemporaryDirectory() as folder:
        posterior.save(folder)
        loaded = MHPosterior.load(folder)
    assert loaded.parameters == posterior.parameters
    assert torch.equal(loaded.default_x, posterior.default_x)
    torch.testing.assert_close(loaded.potential(theta), posterior.potential(theta))


@FEW
@given(st.integers(1, 5), st.permutations(range(4)))
def test_trials_may_come_in_any_order(repeats, order):
    trials = X_O + torch.arange(4.0)[:, None] / 4
    posterior = MHPosterior(
        lambda theta, x_o: sum(log_ratio(theta, x) for x in x_o), PRIOR
    )
    theta = PRIOR.sample((repeats,))
    shuffled = posterior.potential(theta, x=trials[list(order)])
    torch.testing.assert_close(shuffled, posterior.potential(theta, x=trials))
