"""What a posterior can be made of and asked about, in whatever form and mode."""

import copy
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from linear_gaussian import PRIOR, SHORT, X_O
from sbi.analysis import conditional_potential
from sbi.inference.posteriors.posterior_parameters import MCMCPosteriorParameters
from torch.distributions import Independent, MultivariateNormal, Normal

from sbi_aalr import MHPosterior, networks
from sbi_aalr.errors import PrecisionWarning
from sbi_aalr.mcmc import KERNELS
from sbi_aalr.posterior.inputs import check_x

NUMBERS = X_O.tolist()
FORMS = {
    "list": NUMBERS,
    "tuple": tuple(NUMBERS),
    "list of tensors": list(X_O),
    "float64": X_O.double(),
    "requires_grad": X_O.clone().requires_grad_(),
    "not contiguous": torch.stack((X_O, X_O), 1)[:, 0],
    "sparse": X_O.to_sparse(),
    "numpy": X_O.numpy(),
    "numpy float64": X_O.double().numpy(),
    "numpy of objects": np.array(NUMBERS, dtype=object),
    "big end first": np.array(NUMBERS, dtype=">f4"),
    "backwards": np.array(NUMBERS[::-1])[::-1],
    "read only": np.frombuffer(X_O.numpy().tobytes(), dtype=np.float32),
    "table": pd.DataFrame([NUMBERS]),
}
NO_NUMBERS = {
    "complex": X_O + 0j,
    "complex array": X_O.numpy() + 0j,
    "words": ["1", "2"],
    "bytes": b"12",
    "dates": np.array(["2020-01-01"] * 2, dtype="datetime64[D]"),
    "uneven": [[1.0, 2.0], [3.0]],
    "uneven tensors": [X_O, X_O[:1]],
    "mapping": {"a": 1.0},
    "generator": (number for number in NUMBERS),
    "too large": [10**400, 0],
    "module": np,
}


def potential(theta, x_o):
    return -(theta - x_o).square().sum(1)


@pytest.mark.parametrize("name", FORMS)
def test_observations_come_in_any_form(posterior, name):
    expected = posterior.potential(torch.zeros(3, 2), x=X_O)
    found = posterior.potential(torch.zeros(3, 2), x=FORMS[name])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert not found.requires_grad


@pytest.mark.parametrize(
    "x",
    [
        np.array([True, False]),
        torch.tensor([1, 0]),
        torch.tensor([1.0, 0.0]).half(),
        torch.tensor([1.0, 0.0]).bfloat16(),
        range(1, -1, -1),
    ],
)
def test_whole_numbers_are_numbers(posterior, x):
    rows = check_x(x, posterior.potential_fn)
    assert torch.equal(rows, torch.tensor([[1.0, 0.0]]))
    assert rows.dtype == torch.float32


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_what_is_no_number_is_named(posterior, name):
    with pytest.raises(TypeError, match=r"`x` must be (a tensor or|real)"):
        posterior.sample((5,), x=NO_NUMBERS[name], **SHORT)
    with pytest.raises(TypeError, match=r"`theta` must be (a tensor or|real)"):
        posterior.log_prob(NO_NUMBERS[name], x=X_O)


def test_default_observation_is_a_copy(posterior):
    x = X_O.clone()
    posterior.set_default_x(x)
    x.fill_(100.0)
    assert torch.equal(posterior.default_x, X_O[None])


def make_precise(centre=1e7):
    """A posterior whose network was given data of float64, for their digits."""
    torch.manual_seed(0)
    theta = torch.randn(500, 1)
    estimator = networks.mlp((8,))(theta, centre + theta.double())
    prior = Independent(Normal(torch.zeros(1), torch.ones(1)), 1)
    return MHPosterior.from_estimator(estimator, prior)


def test_digits_of_an_observation_reach_the_network():
    posterior = make_precise()
    theta, x = torch.zeros(1, 1), torch.tensor([1e7, 1e7 + 0.3], dtype=torch.float64)
    near, far = (posterior.potential(theta, x=row[None]) for row in x)
    assert (near - far).abs() > 1e-3
    # The control: rounded, the two are one. Where that changes nothing, it is done.
    assert x[0].float() == x[1].float()
    rows = [check_x(row[None], posterior.potential_fn).dtype for row in x]
    assert rows == [torch.float32, torch.float64]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
def test_observation_may_be_on_another_device_than_the_network(make):
    theta, x = PRIOR.sample((64,)), torch.randn(64, 2)
    estimator = networks.mlp((8,))(theta, x).cuda()
    posterior = MHPosterior.from_estimator(estimator, PRIOR)
    assert posterior.sample((5,), x=make([0.5, -0.5]), **SHORT).is_cuda


@pytest.mark.parametrize("make", [torch.tensor, partial(np.array, dtype=np.float32)])
def test_observation_that_has_lost_its_digits_is_told(make):
    posterior = make_precise()
    with pytest.warns(PrecisionWarning, match="steps of 1.2 near 1e") as caught:
        posterior.set_default_x(make([1e7]))
    assert caught[0].filename == __file__ and caught[0].message.value > 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        for x in ([1e7], np.array([1e7]), torch.tensor([1e7], dtype=torch.float64)):
            posterior.set_default_x(x)
        # Where float32 is good enough, whatever the data of training were.
        make_precise(100.0).set_default_x(make([100.0]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, PRIOR), TypeError, "`potential_fn` must be .*got 3 of type int"),
        ((None, PRIOR), TypeError, "`potential_fn` must be .*got None"),
        (("x", PRIOR), TypeError, "`potential_fn` must be .*got 'x'"),
        ((Normal, PRIOR), TypeError, "`potential_fn` must be .*of type type"),
        ((potential,), TypeError, "`proposal` must be .*got None.*no prior"),
        ((potential, "x"), TypeError, "`proposal` must be .*got 'x' of type str"),
        ((potential, 3.0), TypeError, "`proposal` must be .*got 3.0 of type float"),
        ((potential, PRIOR, "x"), TypeError, "`theta_transform` must be .*got str"),
        (
            (potential, Normal(0.0, 1.0)),
            ValueError,
            r"`proposal` must give each parameter set .*draws \(2,\).*Independent",
        ),
        (
            (potential, Normal(torch.zeros(2), 1.0)),
            ValueError,
            r"`proposal` must .* log-densities \(2, 2\)",
        ),
    ],
)
def test_wrong_parts_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        MHPosterior(*arguments)


@pytest.mark.parametrize(
    "parameters", [{}, [], "x", 3, False, MCMCPosteriorParameters()]
)
def test_wrong_parameters_are_named(parameters):
    name = type(parameters).__name__
    with pytest.raises(TypeError, match=f"`parameters` must be MHPost.*got {name}"):
        MHPosterior(potential, PRIOR, parameters=parameters)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("num_iter", 0, ValueError),
        ("num_to_optimize", 1.5, TypeError),
        ("learning_rate", -1.0, ValueError),
        ("num_init_samples", True, TypeError),
        ("save_best_every", "a", TypeError),
        ("init_method", "prior", ValueError),
        ("init_method", None, TypeError),
        ("init_method", [[0.0]], ValueError),
    ],
)
def test_wrong_settings_of_map_are_named(posterior, name, value, error):
    posterior.set_default_x(X_O)
    with pytest.raises(error, match=f"`{name}` must"):
        posterior.map(**{name: value})


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_there_in_any_mode(posterior, mode):
    torch.manual_seed(0)
    expected = posterior.set_default_x(X_O).map(num_iter=20, init_method="proposal")
    draws = posterior.sample((10,), seed=1, **{**SHORT, "kernel": "hmc"})
    with mode():
        torch.manual_seed(0)
        posterior.set_default_x(X_O.clone())
        again = posterior.map(num_iter=20, init_method="proposal")
        redrawn = posterior.sample((10,), seed=1, **{**SHORT, "kernel": "hmc"})
    assert torch.equal(again, expected) and torch.equal(redrawn, draws)
    # What was set there is of use elsewhere.
    assert torch.equal(posterior.map(), expected)
    assert posterior.log_prob(torch.zeros(1, 2)).isfinite()


def test_gradients_of_the_density_outlive_no_grad_only(posterior):
    theta = torch.zeros(1, 2, requires_grad=True)
    with torch.no_grad():
        log_prob = posterior.log_prob(theta, x=X_O, track_gradients=True)
    log_prob.sum().backward()
    assert theta.grad.abs().sum() > 0
    with (
        torch.inference_mode(),
        pytest.raises(RuntimeError, match=r"`track_gradients` must be False inside"),
    ):
        posterior.log_prob(theta, x=X_O, track_gradients=True)


def test_what_has_no_gradients_for_good_is_named():
    estimator = networks.mlp((8,))(torch.randn(20, 2), torch.randn(20, 2))
    with torch.inference_mode():
        estimator = copy.deepcopy(estimator)
    posterior = MHPosterior.from_estimator(estimator, PRIOR).set_default_x(X_O)
    with pytest.raises(RuntimeError, match="`map` needs gradients, and the network or"):
        posterior.map(num_iter=2, init_method=torch.zeros(1, 2))


def test_draws_are_the_same_whatever_the_default_dtype(posterior):
    def draw():
        posterior.set_default_x(X_O)
        runs = [
            posterior.sample((16,), seed=1, **{**SHORT, "kernel": kernel})
            for kernel in KERNELS
        ]
        run = posterior.sample((200,), seed=1, show_progress_bars=False)
        batch = posterior.sample_batched((5,), X_O.repeat(2, 1), seed=1, **SHORT)
        density = posterior.log_prob(torch.zeros(1, 2))
        maximum = posterior.map(num_iter=3, init_method=run[:20], force_update=True)
        return [*runs, run, batch, density, maximum, *posterior.normaliser()]

    expected = draw()
    torch.set_default_dtype(torch.float64)
    try:
        found = draw()
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, other)


@pytest.mark.parametrize("dims", [[0, 1], [1], [2, 0]])
def test_conditional_posteriors_of_sbi_are_sampled(dims):
    covariance = torch.tensor([[1.0, 0.5, 0.2], [0.5, 1.0, 0.4], [0.2, 0.4, 1.0]])
    exact = MultivariateNormal(torch.zeros(3), covariance)
    prior = Independent(Normal(torch.zeros(3), 2 * torch.ones(3)), 1)
    joint = MHPosterior(lambda theta, x_o: exact.log_prob(theta), prior)
    condition = torch.tensor([[0.5, -0.3, 1.0]])
    potential_fn, transform, restricted = conditional_potential(
        joint.potential_fn, joint.theta_transform, prior, condition, dims
    )
    posterior = MHPosterior(potential_fn, restricted, transform)
    draws = posterior.sample(
        (2_000,), x=torch.zeros(1), seed=1, show_progress_bars=False
    )
    precision = torch.linalg.inv(covariance)
    rest = [dim for dim in range(3) if dim not in dims]
    inner = torch.linalg.inv(precision[dims][:, dims])
    mean = -(inner @ precision[dims][:, rest] @ condition[0, rest])
    deviation = inner.diagonal().sqrt()
    assert float(posterior.diagnostics()["ess_bulk"].min()) > 400
    assert ((draws.mean(0) - mean).abs() < 5 * deviation / 20).all()
    assert (draws.std(0) / deviation - 1).abs().max() < 5 / 20**1.4
    # In unconstrained space as well, through a transform that takes rows only.
    draws = posterior.sample((8,), **{**SHORT, "kernel": "hmc"}, x=torch.zeros(1))
    assert draws.isfinite().all()


def test_masked_values_are_no_numbers(posterior):
    masked = np.ma.masked_array([1.0, -2.0], [True, False])
    with pytest.raises(ValueError, match="`x` must be finite, got NaN"):
        posterior.set_default_x(masked)
    unmasked = np.ma.masked_array([1.0, -2.0], False)
    assert posterior.set_default_x(unmasked).default_x.tolist() == [[1.0, -2.0]]


def test_tensor_without_numbers_is_named(posterior):
    with pytest.raises(TypeError, match="`x` must be a tensor with one number in each"):
        posterior.set_default_x(torch.zeros(2, device="meta"))


def test_numbers_of_a_tree_are_its_own(posterior):
    posterior.sample((20,), x=X_O, seed=1, **SHORT)
    before = posterior.summary()
    posterior.to_datatree()["posterior"]["theta"].values[:] = 7.0
    assert posterior.summary().equals(before)
