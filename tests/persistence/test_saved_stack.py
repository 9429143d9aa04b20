"""Stacks come back the same, whatever they hold, and only with their own prior."""

import pytest
import torch
from linear_gaussian import PRIOR, SHORT, X_O, simulate
from sbi.utils import BoxUniform
from stacks import THETA, X, build, make, save
from torch import distributions as d

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.errors import UnsavedPriorWarning
from sbi_aalr.networks import Stack, average_log_ratios, two_towers
from sbi_aalr.persistence import network_json

BASES = ("auto", "posterior", "likelihood")
BOX = BoxUniform(-3 * torch.ones(2), 3 * torch.ones(2))
pytestmark = [
    pytest.mark.filterwarnings("ignore:Maximum number of epochs"),
    pytest.mark.usefixtures("hasty_recipe"),
]


@torch.no_grad()
def assert_same(loaded, posterior, sampled=True):
    found, expected = (p.potential_fn.ratio_estimator for p in (loaded, posterior))
    assert type(found) is type(expected)
    assert torch.equal(found(THETA, X), expected(THETA, X))
    assert torch.equal(loaded.log_prob(THETA), posterior.log_prob(THETA))
    if isinstance(expected, Stack):
        assert (found.proposal is None) == (expected.proposal is None)
        if expected.proposal is not None:
            rows = found.proposal(THETA, X)
            assert torch.equal(rows, expected.proposal(THETA, X))
        assert len(found.stacked) == len(expected.stacked)
        assert found.has_offset == expected.has_offset
    if sampled:
        draws = posterior.sample((30,), seed=3, **SHORT)
        assert torch.equal(loaded.sample((30,), seed=3, **SHORT), draws)


@pytest.mark.parametrize("base", BASES)
def test_trained_stack_comes_back_the_same(base, tmp_path):
    trainer = AALR(PRIOR, base=base, show_progress_bars=False)
    trainer.train_online(simulate, num_simulations=300, num_passes=1, seed=1)
    posterior = trainer.build_posterior().set_default_x(X_O)
    assert isinstance(posterior.potential_fn.ratio_estimator, Stack)
    posterior.save(tmp_path)
    assert_same(MHPosterior.load(tmp_path), posterior)
    assert_same(MHPosterior.load(tmp_path, prior=PRIOR), posterior, sampled=False)


@pytest.mark.parametrize("offset", [True, False])
@pytest.mark.parametrize(
    ("names", "proposal"),
    [
        (("posterior", "likelihood", "towers"), 0),
        (("towers", "closed"), 1),
        (("likelihood",), "closed"),
        (("towers",), "posterior"),
        (("closed",), "closed"),
        (("towers", "likelihood"), None),
    ],
)
def test_stack_of_any_members_comes_back_the_same(names, proposal, offset, tmp_path):
    posterior = save(tmp_path, make(*names, proposal=proposal, offset=offset))
    assert_same(MHPosterior.load(tmp_path), posterior, sampled=offset)


@pytest.mark.parametrize(
    "prior",
    [BOX, d.Independent(d.Normal(torch.zeros(2), torch.full((2,), 3.0)), 1)],
)
def test_stack_for_another_prior_comes_back_the_same(prior, tmp_path):
    stack = make("posterior", "likelihood", proposal=0, prior=prior)
    posterior = save(tmp_path, stack, prior)
    assert_same(MHPosterior.load(tmp_path), posterior)


@pytest.mark.parametrize("names", [("posterior", "likelihood"), ("closed", "towers")])
def test_corrected_stack_comes_back_the_same(names, tmp_path):
    stack = make(*names, proposal=0, mended=True)
    plain = make(*names, proposal=0)
    with torch.no_grad():
        assert (stack(THETA, X) - plain(THETA, X)).abs().max() > 1e-3
    posterior = save(tmp_path, stack)
    assert_same(MHPosterior.load(tmp_path), posterior)


def test_ensemble_of_stacks_comes_back_the_same(tmp_path):
    stacks = [
        make("posterior", "towers", proposal=0),
        make("likelihood", proposal="closed", seed=5),
    ]
    posterior = save(tmp_path, average_log_ratios(stacks))
    assert_same(MHPosterior.load(tmp_path), posterior)


def test_stack_of_stacks_comes_back_the_same(tmp_path):
    inner = make("posterior", "towers", proposal=0)
    outer = Stack([inner, build("closed")], torch.tensor([0.5, 0.7]))
    posterior = save(tmp_path, outer)
    assert_same(MHPosterior.load(tmp_path), posterior)


def test_truncated_rounds_come_back_the_same(tmp_path):
    trainer = AALR(PRIOR, show_progress_bars=False)
    trainer.train_truncated(
        simulate, X_O, 600, num_rounds=2, epsilon=0.01, time_limit=1.5, seed=1
    )
    posterior = trainer.build_posterior().set_default_x(X_O)
    posterior.save(tmp_path)
    loaded = MHPosterior.load(tmp_path)
    assert_same(loaded, posterior)
    cut, expected = loaded.potential_fn.prior, posterior.potential_fn.prior
    assert torch.equal(cut.keeps(THETA), expected.keeps(THETA))
    assert_same(MHPosterior.load(tmp_path, prior=PRIOR), posterior, sampled=False)


@pytest.mark.parametrize(
    "other",
    [BOX, d.MultivariateNormal(torch.zeros(2), 2 * torch.eye(2))],
)
def test_another_prior_is_refused(other, tmp_path):
    save(tmp_path, make("posterior", proposal=0))
    with pytest.raises(ValueError, match="`prior` must be the one"):
        MHPosterior.load(tmp_path, prior=other)


class Halved(d.Normal):
    """A prior of a kind that JSON cannot hold."""

    def __init__(self):
        super().__init__(torch.zeros(2), torch.ones(2))

    def log_prob(self, value):
        return super().log_prob(value).sum(dim=-1)

    @property
    def batch_shape(self):
        return torch.Size()

    @property
    def event_shape(self):
        return torch.Size([2])


def test_prior_that_was_not_saved_is_given_again(tmp_path):
    prior = Halved()
    stack = make("posterior", "likelihood", proposal=0, prior=prior)
    posterior = MHPosterior.from_estimator(stack, prior).set_default_x(X_O)
    with pytest.warns(UnsavedPriorWarning):
        posterior.save(tmp_path)
    with pytest.raises(ValueError, match=r"load\(folder, prior=\.\.\.\)"):
        MHPosterior.load(tmp_path)
    assert_same(MHPosterior.load(tmp_path, prior=prior), posterior)


class Laplacian(d.Distribution):
    """One that knows no mean, from which a scale would have to be drawn."""

    def __init__(self):
        self._own = d.Independent(d.Laplace(torch.zeros(2), torch.ones(2)), 1)
        super().__init__(event_shape=torch.Size([2]), validate_args=False)

    support = d.constraints.independent(d.constraints.real, 1)

    def sample(self, sample_shape=()):
        return self._own.sample(sample_shape)

    def log_prob(self, value):
        return self._own.log_prob(value)


@pytest.mark.filterwarnings("ignore:The passed .*prior has no mean")
def test_prior_without_a_mean_gives_the_same_coordinates_again(tmp_path):
    prior = Laplacian()
    torch.manual_seed(1)
    stack = make("posterior", proposal=0, prior=prior)
    posterior = MHPosterior.from_estimator(stack, prior).set_default_x(X_O)
    with pytest.warns(UnsavedPriorWarning):
        posterior.save(tmp_path)
    torch.manual_seed(2)
    loaded = MHPosterior.load(tmp_path, prior=prior)
    assert_same(loaded, posterior, sampled=False)


def test_loading_spares_the_global_generator_and_asks_for_no_training(tmp_path):
    save(tmp_path, make("posterior", "likelihood", proposal=0))
    state = torch.random.get_rng_state()
    loaded = MHPosterior.load(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not loaded.potential_fn.ratio_estimator.training


def test_stack_with_a_net_of_the_users_must_be_given_again(tmp_path):
    towers = two_towers(8, 1)(THETA, X).eval()
    stack = Stack([build("closed"), towers], torch.ones(2))
    posterior = save(tmp_path, stack)
    with pytest.raises(ValueError, match=r"a classifier that JSON .*classifier=\.\.\."):
        MHPosterior.load(tmp_path)

    def rebuild(theta, x):
        return Stack([build("closed"), two_towers(8, 1)(theta, x)], torch.ones(2))

    assert_same(MHPosterior.load(tmp_path, classifier=rebuild), posterior)


def test_encoding_names_members_and_the_one_that_only_proposes():
    found = network_json.encode_network(make("towers", "likelihood", proposal="closed"))
    assert found["classifier"] == "stack"
    names = [member["classifier"] for member in found["members"]]
    assert names == ["two_towers", "likelihood_mixture", "posterior_mixture"]
    settings = found["classifier_settings"]
    expected = {"num_used": 2, "proposal": 2, "has_offset": 1}
    assert {name: settings[name] for name in expected} == expected


def test_rows_that_a_network_is_built_from_have_no_say(tmp_path, monkeypatch):
    """One in fifty of them were all positive, and of data of ten numbers."""

    def draw(*shape):
        return 10 ** torch.empty(*shape).uniform_(-4, 4)

    posterior = save(tmp_path, make("posterior", "likelihood", "towers"))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn", draw)
        loaded = MHPosterior.load(tmp_path, prior=PRIOR)
    assert_same(loaded, posterior)
