"""What `MHPosterior` says about wrong input: argument, rule, what was given."""

import math

import numpy as np
import pytest
import torch
from linear_gaussian import PRIOR, SHORT, X_O
from torch.distributions import Normal

from sbi_aalr import MHPosterior, MHPosteriorParameters

NAN = torch.tensor([0.0, math.nan])

BAD_X = [
    (NAN, ValueError, "`x` must be finite, got NaN or infinity in 1 of 1 rows"),
    (X_O / 0, ValueError, "`x` must be finite"),
    (torch.zeros(3), ValueError, r"`x` must have shape \(2,\) or \(n, 2\).*got \(3,\)"),
    (torch.zeros(4, 3), ValueError, r"`x` must have shape .*got \(4, 3\)"),
    (3.0, ValueError, r"`x` must have shape .*got \(\)"),
    (torch.zeros(0, 2), ValueError, r"`x` must not be empty, got shape \(0, 2\)"),
    ([], ValueError, r"`x` must have shape .*got \(0,\)"),
    ("data.csv", TypeError, "`x` must be a tensor or an array of numbers, got str"),
    (["a", "b"], TypeError, "`x` must be a tensor or an array of numbers, got list"),
    (np.array(["a", "b"]), TypeError, "`x` must be a .* numbers, got ndarray"),
]


@pytest.mark.parametrize(("x", "error", "message"), BAD_X)
def test_wrong_x_is_named(posterior, x, error, message):
    calls = (
        lambda: posterior.sample((5,), x=x, **SHORT),
        lambda: posterior.sample_batched((5,), x, **SHORT),
        lambda: posterior.log_prob(torch.zeros(1, 2), x=x),
        lambda: posterior.set_default_x(x),
    )
    for call in calls:
        with pytest.raises(error, match=message):
            call()
    assert posterior.default_x is None


@pytest.mark.parametrize(
    ("theta", "error", "message"),
    [
        (NAN, ValueError, "`theta` must be finite"),
        (
            torch.full((3, 2), math.inf),
            ValueError,
            "must be finite.*3 of 3 rows",
        ),
        (torch.zeros(4, 3), ValueError, r"`theta` must have shape \(N, 2\).*\(4, 3\)"),
        (torch.zeros(1, 1, 2), ValueError, r"`theta` must have .*got \(1, 1, 2\)"),
        (torch.zeros(0, 2), ValueError, r"`theta` must have .*got \(0, 2\)"),
        ("a", TypeError, "`theta` must be a tensor or an array of numbers, got str"),
    ],
)
def test_wrong_theta_is_named(posterior, theta, error, message):
    with pytest.raises(error, match=message):
        posterior.log_prob(theta, x=X_O)
    with pytest.raises(error, match=message):
        posterior.potential(theta, x=X_O)


@pytest.mark.parametrize(
    "call",
    [
        lambda posterior: posterior.sample((5,), **SHORT),
        lambda posterior: posterior.log_prob(torch.zeros(1, 2)),
    ],
)
def test_x_must_be_set(posterior, call):
    with pytest.raises(ValueError, match=r"`x` must be given.*`set_default_x\(x\)`"):
        call(posterior)


def test_batch_of_x_must_be_given(posterior):
    with pytest.raises(TypeError, match="numbers, got NoneType"):
        posterior.sample_batched((5,), None, **SHORT)


@pytest.mark.parametrize("act", ["diagnostics", "to_datatree", "summary"])
def test_results_need_a_run(posterior, act):
    with pytest.raises(RuntimeError, match="Call `sample` first"):
        getattr(posterior, act)()


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (
            5,
            TypeError,
            r"`sample_shape` .*got 5. Write `\(5,\)`",
        ),
        ("5", TypeError, "`sample_shape` must be a tuple of ints"),
        (None, TypeError, "`sample_shape` must be a tuple of ints, got None"),
        ((0,), ValueError, "`sample_shape` must be a positive int, got 0"),
        ((2, -3), ValueError, "`sample_shape` must be a positive int, got -3"),
        ((2.5,), TypeError, "`sample_shape` must be a positive int, got 2.5"),
    ],
)
def test_wrong_sample_shape_is_named(posterior, shape, error, message):
    with pytest.raises(error, match=message):
        posterior.sample(shape, x=X_O, **SHORT)
    with pytest.raises(error, match=message):
        posterior.sample_batched(shape, X_O[None], **SHORT)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("num_chains", 2.9, TypeError, "`num_chains` must be a positive int, got 2.9"),
        (
            "num_chains",
            True,
            TypeError,
            "`num_chains` must be .*got True",
        ),
        ("num_chains", "9", TypeError, "`num_chains` must be a positive int, got '9'"),
        ("num_chains", -3, ValueError, "`num_chains` must be a positive int, got -3"),
        ("num_chains", 0, ValueError, "`num_chains` must be a positive int, got 0"),
        (
            "warmup_steps",
            -1,
            ValueError,
            "`warmup_steps` must be .*0, got -1",
        ),
        ("warmup_steps", 0.5, TypeError, "`warmup_steps` must be .*got 0.5"),
        ("thin", 0, ValueError, "`thin` must be a positive int, got 0"),
        ("num_candidates", 1.5, TypeError, "`num_candidates` must be .*got 1.5"),
        ("max_steps", 0, ValueError, "`max_steps` must be a positive int, got 0"),
        ("max_batch_size", 0, ValueError, "`max_batch_size` must be .*got 0"),
        ("max_rhat", 1.0, ValueError, "`max_rhat` must be above 1, got 1.0"),
        ("max_rhat", "a", TypeError, "`max_rhat` must be a number, got 'a'"),
        ("min_ess", 0, ValueError, "`min_ess` must be a positive .*got 0"),
        ("min_ess", math.inf, ValueError, "`min_ess` must be a positive .*got inf"),
        (
            "init_strategy",
            "nowhere",
            ValueError,
            "'init_strategy' must be .*got nowhere",
        ),
        ("kernel", "nuts", ValueError, "`kernel` must be one of .*'hmc', got 'nuts'"),
        ("kernel", 3, TypeError, "`kernel` must be a name or a Kernel, got int"),
        ("num_chain", 3, ValueError, "'num_chain' is not a valid field"),
        ("seed", -1, ValueError, "`seed` must be an int of at least 0, got -1"),
        ("seed", 1.5, TypeError, "`seed` must be an int of at least 0, got 1.5"),
    ],
)
def test_wrong_settings_are_named(posterior, name, value, error, message):
    with pytest.raises(error, match=message):
        posterior.sample((5,), x=X_O, **{**SHORT, name: value})
    if name not in ("num_chain", "seed"):
        with pytest.raises(error, match=message):
            MHPosteriorParameters(**{name: value})


def test_wrong_prior_is_named(estimator):
    with pytest.raises(TypeError, match="`prior` must be a torch Distribution"):
        MHPosterior.from_estimator(estimator, None)
    with pytest.raises(ValueError, match="Independent"):
        MHPosterior.from_estimator(estimator, Normal(torch.zeros(2), 1.0))


def test_posterior_of_no_density_anywhere_is_named():
    posterior = MHPosterior(
        lambda theta, x_o: torch.full((len(theta),), -math.inf), proposal=PRIOR
    )
    for strategy in ("resample", "proposal"):
        with pytest.raises(ValueError, match="finite"):
            posterior.sample((5,), x=X_O, **SHORT, init_strategy=strategy)
