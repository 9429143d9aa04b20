"""Small trainers on the linear Gaussian problem, and what tests ask of them."""

from linear_gaussian import PRIOR, build_quadratic, draw_pairs
from torch import nn

from sbi_aalr import AALR

# A short run of `train_online`, and one of `train`.
FEW = {"num_simulations": 200, "batch_size": 50, "seed": 1}
SOON = {"stop_after_epochs": 1, "training_batch_size": 50, "seed": 1}


def make_trainer(classifier=build_quadratic, prior=PRIOR, **settings):
    return AALR(
        prior, classifier, **{"show_progress_bars": False, "base": None, **settings}
    )


def append(trainer, num_rows=400, seed=1, **settings):
    theta, _, x = draw_pairs(num_rows, seed)
    return trainer.append_simulations(theta, x, **settings)


def get_estimator(trainer):
    """The estimator that the trainer would build a posterior from."""
    return trainer.build_posterior().potential_fn.ratio_estimator


def weights(estimator):
    return nn.utils.parameters_to_vector(estimator.parameters()).detach().clone()
