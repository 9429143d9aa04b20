"""Runs that keep what is done of them, and are interrupted."""

from linear_gaussian import SHORT


class Interruption(Exception):
    pass


def sample(posterior, x, out, seed=4):
    return posterior.sample_batched((40,), x, seed=seed, out=out, **SHORT)
