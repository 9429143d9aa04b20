"""Estimators that several test files share, each fitted once."""

import os

# Small tests gain nothing from more threads, and wait for each other on a busy machine.
# Set before torch is imported; commands that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from linear_gaussian import PRIOR, SHORT, build_quadratic, simulate

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.training import correct, members, recipe


@pytest.fixture(scope="session")
def fitted():
    """A trainer whose estimator is all but exact. Do not train it further."""
    trainer = AALR(PRIOR, build_quadratic, show_progress_bars=False)
    trainer.train_online(
        simulate,
        num_simulations=400_000,
        batch_size=500,
        learning_rate=0.03,
        seed=1,
    )
    return trainer


@pytest.fixture(scope="session")
def estimator(fitted):
    return fitted.build_posterior().potential_fn.ratio_estimator


@pytest.fixture
def posterior(estimator):
    return MHPosterior.from_estimator(estimator, PRIOR)


@pytest.fixture
def hasty(monkeypatch):
    """Measure coverage with chains too short to trust, where it is not the point."""
    settings = {**SHORT, "num_chains": 5, "num_candidates": 1_000}
    del settings["show_progress_bars"]
    monkeypatch.setattr("sbi_aalr.report.run_report.QUICK", settings)


@pytest.fixture
def unpictured(monkeypatch):
    """Leave out the figures of observations, which take most of the time."""
    monkeypatch.setattr(
        "sbi_aalr.report.sections.picture_observation", lambda *arguments: []
    )


@pytest.fixture(scope="module")
def hasty_stack():
    """Fewer steps and contrasts of the stack, most of the time of a short training."""
    with pytest.MonkeyPatch.context() as patch:
        few = correct._RECIPE._replace(num_passes=2)
        patch.setattr(correct, "_RECIPE", few)
        patch.setattr("sbi_aalr.training.offset._NUM_STEPS", 100)
        patch.setattr("sbi_aalr.training.assemble._NUM_CONTRASTS", 48)
        patch.setattr("sbi_aalr.training.assemble._OFFSET_CONTRASTS", 16)
        yield


@pytest.fixture(scope="module")
def hasty_towers(hasty_stack):
    """Few passes of the towers besides, where densities are the point."""
    first, *others = recipe._ENTRIES
    few = first._replace(recipe=first.recipe._replace(num_passes=3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "_ENTRIES", [few, *others])
        patch.setattr(members, "_PLAIN_PASSES", 8)
        yield


@pytest.fixture(scope="module")
def hasty_recipe(hasty_towers):
    """Few passes of all, where it is not the point how good the posterior is."""
    choose = members.choose_density_recipe
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            members,
            "choose_density_recipe",
            lambda count: choose(count)._replace(num_passes=8),
        )
        yield
