"""Bad inputs: the values that people pass by mistake, and how cases are listed.

A case is a name, a call of a few objects that are ready, and the argument that the
message must name. The values are of another type or sign, NaN, a string from a form,
nothing.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from linear_gaussian import PRIOR, build_quadratic, simulate
from torch.distributions import Normal

from sbi_aalr import AALR, MHPosterior

NAN, INF = math.nan, math.inf
NO_COUNT = (0, -3, 2.5, "9", True, None, NAN, [4], torch.tensor(4.5))
NO_OPTIONAL_COUNT = tuple(value for value in NO_COUNT if value is not None)
NO_INDEX = (-1, 1.5, "1", True, [1])
NO_POSITIVE = (0, -1.0, NAN, INF, "0.1", True, [1.0])
NO_FRACTION = (0, 1, -0.1, 1.5, NAN, "0.5", True)
NO_PRIOR = (3, "uniform", [0, 1], Normal(torch.zeros(2), 1.0), object())
NO_DEVICE = ("gpu", "cuda:99", "", 3.5, "cpu:x")
NO_X = (
    "data.csv",
    ["a", "b"],
    [],
    3.0,
    torch.zeros(3),
    torch.zeros(0, 2),
    torch.tensor([0.0, NAN]),
    torch.tensor([INF, 0.0]),
    torch.zeros(2, dtype=torch.complex64),
    np.array(["a", "b"]),
    object(),
)
NO_NAMES = ("ab", ["a"], ["a", "a"], ["a", 3], ["a", "b", "c"])
NO_BOOL = ("no", 1, None, [], torch.zeros(2))
NO_TREE = (3, "tree", None, torch.zeros(2))
NO_TENSOR = (3, "a", None, [1.0], np.zeros(3))


class Ready(NamedTuple):
    """Objects that are ready to be called."""

    trainer: AALR
    posterior: MHPosterior
    estimator: object
    folder: object


class Case(NamedTuple):
    """One bad input."""

    name: str
    call: object
    argument: str


def pairs():
    torch.manual_seed(0)
    theta = PRIOR.sample((40,))
    return theta, simulate(theta)


def make_trainer(**settings):
    return AALR(PRIOR, build_quadratic, show_progress_bars=False, **settings)


def make_stored():
    return make_trainer().append_simulations(*pairs())


def list_values(where, argument, values, call):
    """A case for each value, for an argument of one function."""
    for index, value in enumerate(values):
        yield Case(
            f"{where}-{argument}-{index}",
            lambda ready, value=value: call(ready, value),
            argument,
        )


def list_keywords(where, call, table):
    """Cases for keyword arguments that share their values."""
    for arguments, values in table:
        for argument in arguments.split():
            yield from list_values(
                where,
                argument,
                values,
                lambda ready, value, argument=argument: call(
                    ready, **{argument: value}
                ),
            )
