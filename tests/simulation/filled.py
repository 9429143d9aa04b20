"""Stores that are filled on several kinds of executors."""

import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import pytest
import torch
from kills import needs_fork
from torch.distributions import MultivariateNormal

from sbi_aalr.errors import InvalidSimulationsWarning
from sbi_aalr.simulation import SimulationStore, fill_store

PRIOR = MultivariateNormal(torch.zeros(2), torch.eye(2))
# Of the first 60 parameters of seed 1.
SETTINGS = {"num_simulations": 60, "batch_size": 10, "seed": 1}


@contextmanager
def open_executor(name):
    if name == "none":
        yield None
    elif name == "threads":
        with ThreadPoolExecutor(2) as executor:
            yield executor
    else:
        with ProcessPoolExecutor(2, mp_context=get_context("fork")) as executor:
            yield executor


EXECUTORS = ["none", "threads", pytest.param("processes", marks=needs_fork)]


def fill(path, simulator, **settings):
    store = SimulationStore(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InvalidSimulationsWarning)
        account = fill_store(store, simulator, PRIOR, **{**SETTINGS, **settings})
    return store, account


def is_equal(found, expected):
    return all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
