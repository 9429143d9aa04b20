"""Short trainings of the default recipe on the linear Gaussian problem."""

from linear_gaussian import compare, draw_pairs, simulate
from trainers import append, make_trainer

NUM_ROWS = 800
STORED = {"max_num_epochs": 2, "seed": 1}
ONLINE = {"num_simulations": NUM_ROWS, "num_passes": 2, "seed": 1}


def make(base="auto", **settings):
    return make_trainer("two_towers", base=base, **settings)


def train(base="auto", is_stored=True, num_rows=NUM_ROWS, **settings):
    trainer = make(base)
    if is_stored:
        append(trainer, num_rows).train(**{**STORED, **settings})
    else:
        trainer.train_online(simulate, **{**ONLINE, **settings})
    return trainer


def measure_error(estimator):
    """Mean absolute errors of the log-ratio on joint and on marginal pairs."""
    theta, theta_prime, x = draw_pairs(2_000, seed=9)
    return [compare(estimator, rows, x)[1] for rows in (theta, theta_prime)]
