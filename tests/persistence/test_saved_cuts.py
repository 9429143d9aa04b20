"""A truncated posterior comes back with its cuts, and says for what it was cut."""

import pytest
import torch
from linear_gaussian import PRIOR, build_quadratic, draw_pairs
from sbi.utils import BoxUniform

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.errors import OtherObservationWarning, UnsavedPriorWarning
from sbi_aalr.files import read_sealed, write_sealed
from sbi_aalr.sampling.truncated_prior import TruncatedPrior, cut_prior
from sbi_aalr.training.classifiers import NamedBuilder

X_O = torch.tensor([[0.5, -1.0]])
BOX = BoxUniform(-3 * torch.ones(2), 3 * torch.ones(2))
THETA = 6 * torch.rand(500, 2, generator=torch.Generator().manual_seed(1)) - 3
SMALL = {"hidden_features": 8, "num_blocks": 1}


def build_small(theta, x):
    return NamedBuilder("two_towers", SMALL)(theta, x).eval()


def make(prior=BOX, build=build_small, num_cuts=2):
    """A posterior of untrained networks, cut as rounds would cut it."""
    torch.manual_seed(1)
    theta, _, x = draw_pairs(60, seed=1)
    draws = X_O + torch.randn(500, 2)
    for _ in range(num_cuts):
        estimator = build(theta, x)
        prior = cut_prior(prior, estimator, X_O, draws, 0.2)
    return MHPosterior.from_estimator(build(theta, x), prior).set_default_x(X_O)


def assert_same(loaded, posterior):
    cut, expected = loaded.potential_fn.prior, posterior.potential_fn.prior
    assert isinstance(cut, TruncatedPrior) and len(cut.cuts) == len(expected.cuts)
    assert torch.equal(cut.keeps(THETA), expected.keeps(THETA))
    assert 0 < cut.keeps(THETA).sum() < 400
    assert torch.equal(loaded.potential(THETA), posterior.potential(THETA))
    torch.manual_seed(2)
    draws = cut.sample((200,))
    torch.manual_seed(2)
    assert torch.equal(expected.sample((200,)), draws)


def test_cuts_come_back_with_and_without_the_prior(tmp_path):
    posterior = make()
    posterior.save(tmp_path)
    assert_same(MHPosterior.load(tmp_path), posterior)
    assert_same(MHPosterior.load(tmp_path, prior=BOX), posterior)
    given = posterior.potential_fn.prior
    assert_same(MHPosterior.load(tmp_path, prior=given), posterior)


def test_other_prior_is_refused(tmp_path):
    make().save(tmp_path / "cut")
    MHPosterior.from_estimator(make().potential_fn.ratio_estimator, BOX).save(
        tmp_path / "whole"
    )
    for folder in ("cut", "whole"):
        with pytest.raises(ValueError, match=r"`prior` must be the one .* saved with"):
            MHPosterior.load(tmp_path / folder, prior=PRIOR)
    with pytest.raises(ValueError, match=r"`prior` must be the one .* saved with"):
        MHPosterior.load(tmp_path / "whole", prior=make().potential_fn.prior)


def test_cuts_of_own_networks_and_priors_come_back(tmp_path):
    class Own(BoxUniform):
        pass

    own = Own(-3 * torch.ones(2), 3 * torch.ones(2))
    posterior = make(own, build_quadratic)
    with pytest.warns(UnsavedPriorWarning, match="The prior, a Own, was not saved"):
        posterior.save(tmp_path)
    for given in (own, posterior.potential_fn.prior):
        loaded = MHPosterior.load(tmp_path, prior=given, classifier=build_quadratic)
        assert_same(loaded, posterior)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cuts: cuts.pop(),
        lambda cuts: cuts.append(cuts[0]),
        lambda cuts: cuts[0].update(least_log_ratio=None),
        lambda cuts: cuts[0].update(least_log_ratio=1),
        lambda cuts: cuts[0].update(classifier="linear"),
        lambda cuts: cuts[0].pop("classifier"),
        lambda cuts: cuts.__setitem__(0, 3),
    ],
)
def test_cuts_that_nobody_saved_are_refused(tmp_path, spoil):
    make().save(tmp_path)
    document = read_sealed(tmp_path / "posterior.json")
    spoil(document["cuts"])
    write_sealed(tmp_path / "posterior.json", document)
    with pytest.raises(ValueError, match=r"posterior.json"):
        MHPosterior.load(tmp_path)


def test_another_observation_is_warned_about_where_it_is_asked_for(tmp_path):
    make().save(tmp_path)
    posterior = MHPosterior.load(tmp_path)
    quick = {"num_chains": 4, "warmup_steps": 2, "thin": 1, "show_progress_bars": False}
    quick |= {"max_rhat": None, "min_ess": None, "num_candidates": 200}
    posterior.sample((4,), seed=1, **quick)
    posterior.sample((4,), x=X_O[0].double(), seed=1, **quick)
    posterior.sample_batched((4,), x=X_O, seed=1, **quick)
    rows = torch.cat((X_O, X_O + 1e-3, -X_O))
    for ask in (
        lambda: posterior.sample_batched((4,), x=rows, seed=1, **quick),
        lambda: posterior.sample((4,), x=rows, seed=1, **quick),
        lambda: posterior.set_default_x(rows),
        lambda: posterior.potential(THETA, x=rows),
    ):
        with pytest.warns(OtherObservationWarning, match="2 of 3 rows") as caught:
            ask()
        assert caught[0].message.value == 2 and caught[0].filename == __file__
    whole = MHPosterior.from_estimator(posterior.potential_fn.ratio_estimator, BOX)
    whole.sample_batched((4,), x=rows, seed=1, **quick)


def test_cuts_move_to_a_device_with_their_prior():
    prior = make().potential_fn.prior
    prior.to("meta")
    parts = [part for cut in prior.cuts for part in (cut.x, cut.low, cut.high)]
    parts += [next(cut.estimator.parameters()) for cut in prior.cuts]
    parts.append(prior.prior.base_dist.low)
    assert {part.device.type for part in parts} == {"meta"}


@pytest.mark.slow
def test_posterior_after_rounds_is_the_same_after_loading(tmp_path):
    trainer = AALR(BOX, show_progress_bars=False)
    trainer.train_truncated(
        lambda theta: theta + 0.1 * torch.randn_like(theta),
        X_O,
        num_simulations=2_000,
        num_rounds=2,
        time_limit=5,
        seed=1,
    )
    posterior = trainer.build_posterior().set_default_x(X_O)
    posterior.save(tmp_path)
    loaded = MHPosterior.load(tmp_path, prior=BOX)
    draws = loaded.sample((2_000,), seed=1, show_progress_bars=False)
    expected = posterior.sample((2_000,), seed=1, show_progress_bars=False)
    assert torch.equal(draws, expected)
    assert (draws.mean(0) - X_O[0]).abs().max() < 0.1
    assert 0.05 < draws.std(0).max() < 0.15
