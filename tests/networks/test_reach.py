"""Data a whole range beyond those of training are told of, whatever their kind."""

import warnings

import pytest
import torch
from linear_gaussian import PRIOR, SHORT

from sbi_aalr import MHPosterior
from sbi_aalr.diagnostics import expected_coverage
from sbi_aalr.errors import FarObservationWarning
from sbi_aalr.networks import Scale, likelihood_mixture, mlp
from sbi_aalr.networks.digits import find_scales
from sbi_aalr.networks.reach import warn_if_beyond

GENERATOR = torch.Generator().manual_seed(0)
NOISE = torch.randn(2_000, 1, generator=GENERATOR)
KINDS = {
    "noise": (NOISE, [-3.0, 6.0], [-12.0, 12.0]),
    "one-sided": (NOISE.abs(), [0.0, 6.0], [-5.0, 9.0]),
    "decades": (10 ** (3 * NOISE), [1e-15, 1e15], [0.0, 1e37]),
    "precise": (
        2.46e6 + 0.1 * NOISE.double(),
        [2.46e6, 2.46e6 + 0.5],
        [0.0, 2.46e6 + 2],
    ),
    "constant": (torch.full((50, 1), 0.3), [0.3, 0.3 + 1e-6], [1.5]),
    "number": (torch.full((50, 1), 123456789.0), [123456789.0, 123456792.0], [1e6]),
    # Out of what float32 holds once it is scaled.
    "wide": (
        1e-30 * torch.tensor([[1e40], *NOISE.tolist()], dtype=torch.float64),
        [0, 1e12],
        [],
    ),
    "counts": (NOISE.mul(3).round().abs(), [0, 15], [40, -30]),
    "sentinel": (
        NOISE.where(NOISE < 2, torch.tensor(-999.0)),
        [5.0, -999.0],
        [2_500.0],
    ),
}


def list_warnings(scale, *values):
    rows = torch.tensor([[value] for value in values], dtype=torch.float64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_beyond(rows, [scale], 1)
    return caught


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_a_range_beyond_all_data_is_told(kind):
    batch, near, far = KINDS[kind]
    scale = Scale(batch)
    for value in near:
        assert not list_warnings(scale, value)
    for value in far:
        (warning,) = list_warnings(scale, *near, value)
        assert warning.category is FarObservationWarning
        assert warning.message.value > 1
        message = str(warning.message)
        assert (
            message.startswith(f"1 of {len(near) + 1} rows") and "row 2 has" in message
        )


def test_message_says_where_and_what_was_there_before():
    batch = 10 ** torch.cat((NOISE, 3 * NOISE), dim=1)
    scale = Scale(batch)
    low, high = batch[:, 1].amin().item(), batch[:, 1].amax().item()
    with pytest.warns(FarObservationWarning) as caught:
        warn_if_beyond(torch.tensor([[1.0, 1e37]]), [scale], 1)
    message = str(caught[0].message)
    assert "`x` is far" in message and "it has 1e+37 in column 1, where" in message
    assert f"they are from {low:.5g} to {high:.5g}." in message


def test_range_is_saved_and_files_of_before_have_none():
    scale, other = Scale(NOISE), Scale(1e3 * NOISE)
    other.load_state_dict(scale.state_dict())
    assert list_warnings(other, 100.0)
    older = {name: scale.state_dict()[name] for name in ("location", "spread")}
    other.load_state_dict(older)
    assert not list_warnings(other, 100.0)


def test_trials_are_compared_by_their_order():
    scale = Scale(NOISE.view(500, 4, 1).sort(dim=1).values)
    scale.sort_rows()
    far = torch.tensor([[[50.0], [0.1], [-0.2], [0.3]]])
    with pytest.warns(FarObservationWarning, match="it has 50 in column 3"):
        warn_if_beyond(far, [scale], 1)


def test_scale_of_a_trial_serves_all_of_them():
    """The density of a trial has one scale, where `x` has many trials."""
    theta, x = PRIOR.sample((200,)), torch.randn(200, 6, 2, generator=GENERATOR)
    build = likelihood_mixture(1, 0, is_exchangeable=True)
    (scale,) = find_scales(build(theta, x).embedding_net_x)
    assert scale.least.shape == (2,)
    far = x[:1].clone()
    far[0, 3, 1] = 1e6
    with pytest.warns(FarObservationWarning, match=r"it has 1e\+06 in column 7"):
        warn_if_beyond(far, [scale], 1)


def test_weights_of_another_dtype_are_taken_over():
    scale, other = Scale(NOISE), Scale(1e3 * NOISE)
    other.load_state_dict(Scale(NOISE).double().state_dict())
    assert torch.equal(other(NOISE), scale(NOISE))
    assert other.least.dtype == torch.float32
    other.load_state_dict(scale.state_dict())
    # A copy: what becomes of the one does not become of the other.
    assert other.least.data_ptr() != scale.least.data_ptr()


def make_posterior():
    torch.manual_seed(0)
    theta = PRIOR.sample((500,))
    estimator = mlp((8,))(theta, theta + 0.1 * torch.randn_like(theta))
    return MHPosterior.from_estimator(estimator, PRIOR)


def list_far(act):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
    return [one for one in caught if one.category is FarObservationWarning]


def test_far_observation_is_told_once(tmp_path):
    posterior = make_posterior()
    theta, x = torch.zeros(3, 2), torch.tensor([300.0, -200.0])
    for act in (posterior.log_prob, posterior.potential):
        (one,) = list_far(lambda act=act: act(theta, x=x))
        assert one.filename == __file__
    assert len(list_far(lambda: posterior.set_default_x(x))) == 1
    # Of what was told before, and of simulations that are far by themselves, nothing.
    folder = posterior.save(tmp_path / "run")
    assert not list_far(lambda: MHPosterior.load(folder, classifier=mlp((8,))))
    rows = x.expand(3, 2)
    quick = {**SHORT, "num_samples": 10, "seed": 1}
    assert not list_far(lambda: expected_coverage(posterior, theta, rows, **quick))


def test_posterior_tells_of_an_observation_in_another_unit():
    posterior = make_posterior()
    with pytest.warns(FarObservationWarning, match="check units") as caught:
        posterior.sample((5,), x=[300.0, -200.0], **SHORT)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", FarObservationWarning)
        posterior.sample((5,), x=[0.3, -0.2], **SHORT)
