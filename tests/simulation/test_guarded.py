"""No simulator can spoil what its data are used for."""

import sys

import numpy as np
import pytest
import torch
from linear_gaussian import PRIOR, log_ratio, simulate
from sbi.utils import BoxUniform
from sklearn.linear_model import LogisticRegression

from sbi_aalr import AALR
from sbi_aalr.diagnostics import add_predictive, classifier_balance, ratio_roc
from sbi_aalr.diagnostics.datatree import to_datatree
from sbi_aalr.simulation import SimulationStore, fill_store
from sbi_aalr.simulation.adapt import adapt
from sbi_aalr.simulation.batches import stream
from sbi_aalr.simulation.guarded import GuardedSimulator

THETA = torch.tensor([[0.5, 0.25], [0.75, -0.5]])
WEIGHT = torch.ones(2, requires_grad=True)
BUFFER = torch.zeros(10_000, 2)


def overwrite(theta):
    x = theta.clone()
    theta.fill_(7.0)
    return x


def overwrite_in_numpy(theta):
    theta = np.asarray(theta)
    x = theta.copy()
    theta[:] = 7.0
    return x


def overwrite_a_row(theta):
    first, second = theta.tolist()
    theta.fill_(7.0)
    return first, second


def reuse_a_buffer(theta):
    BUFFER[: len(theta)] = theta
    return BUFFER[: len(theta)]


SPOILERS = {
    "identity": lambda theta: theta,
    "view": lambda theta: theta[:],
    "view in numpy": np.asarray,
    "overwrite": overwrite,
    "overwrite in numpy": overwrite_in_numpy,
    "overwrite a row": overwrite_a_row,
    "buffer": reuse_a_buffer,
    "gradients": lambda theta: WEIGHT * theta,
    "gradients in a list": lambda theta: list(WEIGHT * theta),
    "float64": lambda theta: theta.double(),
    "list": lambda theta: theta.tolist(),
    "reversed memory": lambda theta: np.asarray(theta)[:, ::-1].copy()[:, ::-1],
    "overlapping memory": lambda theta: (
        theta[:, :1].expand(-1, 2) + (theta - theta[:, :1])
    ),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_theta_stays_and_x_is_nobody_else_s(name):
    simulator = adapt(SPOILERS[name], PRIOR)
    theta = THETA.clone()
    x = simulator(theta)
    assert torch.equal(theta, THETA)
    assert torch.allclose(x, THETA) and x.dtype == torch.float32
    assert not x.requires_grad
    # Neither by another call, nor by who uses it.
    simulator(torch.zeros(2, 2))
    x += 1
    assert torch.equal(theta, THETA) and torch.allclose(x, THETA + 1)
    assert torch.equal(WEIGHT, torch.ones(2))


def test_batches_of_a_stream_do_not_share_memory():
    batches = list(stream(reuse_a_buffer, PRIOR, 30, 10))
    for batch in batches:
        assert torch.equal(batch.theta, batch.x)
    assert not torch.equal(batches[0].x, batches[1].x)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (torch.tensor([[1], [2]]), [[1.0], [2.0]]),
        (torch.tensor([[True], [False]]), [[1.0], [0.0]]),
        (np.array([[1], [2]], dtype=np.uint16), [[1.0], [2.0]]),
        ([[1, 2.5], [3, 4]], [[1.0, 2.5], [3.0, 4.0]]),
        (np.float64([[1e-300], [2]]), [[0.0], [2.0]]),
    ],
)
def test_numbers_of_any_kind_become_float32(values, expected):
    x = GuardedSimulator(lambda theta: values)(THETA)
    assert x.dtype == torch.float32 and x.tolist() == expected


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda t: t + 0j, TypeError, "got Tensor of torch.complex64. Return real and"),
        (lambda t: t.numpy() + 0j, TypeError, "got ndarray of complex64. Return real"),
        (lambda t: [["a"]] * 2, TypeError, "got ndarray of <U1. Return an array or a"),
        (
            lambda t: None,
            TypeError,
            "`simulator` must return real numbers, got NoneTyp",
        ),
        (
            lambda t: {"x": t},
            TypeError,
            "`simulator` must return real numbers, got dict",
        ),
        (lambda t: np.array([[t], [None]], object), TypeError, "ndarray of object"),
        (lambda t: [[1.0], [1.0, 2.0]], ValueError, "rows of one shape, got list of"),
        (lambda t: [t[0], t[0, :1]], ValueError, "rows of one shape, got list of"),
        (lambda t: t[:1], ValueError, r"\(2, \*event_shape\), got \(1, 2\)"),
        (lambda t: t.sum(), ValueError, r"got \(\). Give a single number the shape"),
        (lambda t: t[:, :0], ValueError, r"\(2, \*event_shape\), got \(2, 0\)"),
        (lambda t: 1e39 * t.double(), ValueError, "finite as float32, got NaN or inf"),
        (lambda t: 1e39 * t.double().numpy(), ValueError, "in 2 of 2 rows"),
        (
            lambda t: torch.where(t[:, :1] > 0.6, torch.nan, t),
            ValueError,
            r"1 of 2 rows \(first: theta = \[0.75, -0.5\]\).*`exclude_invalid_x=True`",
        ),
        (
            lambda t: np.ma.masked_greater(t.numpy(), 0.6),
            ValueError,
            r"1 of 2 rows \(first: theta = \[0.75, -0.5\]\)",
        ),
        (
            lambda t: 1 / 0,
            ValueError,
            r"raised ZeroDivisionError: .* \(for 2 parameter sets, the first is \[0.5",
        ),
    ],
)
def test_what_are_no_finite_rows_is_named(make, error, message):
    with pytest.raises(error, match=message):
        GuardedSimulator(make)(THETA)


class Failing:
    """Gives NaN, one row in three; always where the first parameter is negative."""

    def __init__(self):
        self.count = 0

    def __call__(self, theta):
        self.count += len(theta)
        x = theta + torch.randn_like(theta)
        x[(torch.rand(len(theta)) < 1 / 3) | (theta[:, 0] < 0), 1] = torch.nan
        return x


def test_invalid_simulations_are_made_again_at_their_parameters():
    simulate, theta = Failing(), torch.arange(600.0).reshape(300, 2)
    torch.manual_seed(1)
    x = GuardedSimulator(simulate).excluding_invalid()(theta)
    assert x.isfinite().all() and (x - theta).abs().max() < 6
    # Half as many again, as a geometric series has it.
    assert 400 < simulate.count < 500


def test_what_always_fails_is_refused_after_many_tries():
    simulate = Failing()
    guarded = GuardedSimulator(simulate)
    theta = torch.tensor([[1.0, 1.0], [-2.0, 3.0]])
    message = r"1 of 2 rows, 100 times over \(first: theta = \[-2.0, 3.0\]\)"
    with pytest.raises(ValueError, match=message):
        guarded.excluding_invalid()(theta)
    assert simulate.count >= 101
    # The one that was given is as it was.
    with pytest.raises(ValueError, match="finite") as caught:
        guarded(theta)
    assert "over (first" not in str(caught.value)


# Each adds noise from another generator to its theta, and leaves nothing as it was.


def noisy(theta):
    return simulate(theta)


def noisy_in_numpy(theta):
    theta = np.asarray(theta)
    x = theta + 1.5 * np.random.standard_normal(theta.shape)
    theta += 100.0
    return x


def noisy_row(theta):
    first, second = theta.tolist()
    theta += 100.0
    return first + np.random.normal(0, 1.5), second + np.random.normal(0, 1.5)


def noisy_emulator(theta):
    return WEIGHT * theta + 1.5 * torch.randn_like(theta)


KINDS = [noisy, noisy_in_numpy, noisy_row, noisy_emulator]


@pytest.mark.parametrize("simulator", KINDS)
def test_all_that_simulates_takes_every_kind(simulator):
    few = {"num_simulations": 300, "seed": 1}
    assert classifier_balance(log_ratio, simulator, PRIOR, **few).passed
    found = ratio_roc(
        log_ratio,
        simulator,
        PRIOR,
        torch.zeros(2),
        classifier=LogisticRegression(),
        min_effective_sample_size=50,
        **few,
    )
    assert found.passed
    tree = to_datatree(torch.randn(4, 50, 2), observed_data=torch.zeros(2))
    tree = add_predictive(tree, simulator, PRIOR, num_draws=200, seed=1)
    sd = float(tree["prior_predictive"]["x"].std())
    assert abs(sd - (1 + 1.5**2) ** 0.5) < 0.3
    trainer = AALR(PRIOR, "linear", show_progress_bars=False)
    trainer.train_online(simulator, 200, seed=1)
    trainer.train_truncated(simulator, torch.zeros(2), 200, num_rounds=1, seed=1)


def test_a_seed_gives_what_it_gave_when_nothing_was_tried():
    found = classifier_balance(log_ratio, simulate, PRIOR, num_simulations=50, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theta, theta_prime = PRIOR.sample((50,)), PRIOR.sample((50,))
        x = simulate(theta)
    assert found.joint == pytest.approx(float(log_ratio(theta, x).sigmoid().mean()))
    marginal = float(log_ratio(theta_prime, x).sigmoid().mean())
    assert found.marginal == pytest.approx(marginal)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty_recipe")
def test_training_on_an_in_place_simulator_finds_the_parameters():
    low, high = torch.tensor([-3.0, 0.0]), torch.tensor([0.0, 1.0])

    def simulator(theta):
        theta = np.asarray(theta)
        x = theta + 0.1 * np.random.standard_normal(theta.shape)
        theta[:, 0] = 10 ** theta[:, 0]
        return x

    prior = BoxUniform(low, high)
    trainer = AALR(prior, base="likelihood", show_progress_bars=False)
    trainer.train_online(simulator, 1_000, num_passes=4, seed=1)
    posterior = trainer.build_posterior()
    axes = torch.linspace(-3, 0, 61), torch.linspace(0, 1, 41)
    theta = torch.cartesian_prod(*axes)
    log_prob = posterior.potential(theta, x=torch.tensor([-1.5, 0.5]))
    mean = log_prob.softmax(0) @ theta
    assert abs(mean[0] + 1.5) < 0.1 and abs(mean[1] - 0.5) < 0.1


def leave(theta):
    if (theta[..., 0] > 1).any():
        sys.exit(3)
    return simulate(theta)


@pytest.mark.filterwarnings("ignore::sbi_aalr.errors.AALRWarning")
def test_simulator_that_exits_is_a_failure_and_ends_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"`simulator` raised SystemExit: 3 \(for"):
        adapt(leave, PRIOR)(torch.full((2, 2), 2.0))
    store = SimulationStore(tmp_path / "store")
    settings = {"batch_size": 5, "seed": 1, "on_error": "skip"}
    account = fill_store(store, leave, PRIOR, 20, **settings)
    assert 0 < account.num_failures < 20
    assert len(store) == 20 - account.num_failures
