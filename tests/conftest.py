"""Estimators that several test files share, each fitted once."""

import os

# Small tests gain nothing from more threads, and wait for each other on a busy machine.
# Set before torch is imported; commands that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from linear_gaussian import PRIOR, build_quadratic, simulate

from sbi_aalr import AALR, MHPosterior


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
