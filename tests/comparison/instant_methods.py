"""Methods that cost nothing, write down what they do, and fail where they are told to.

In a module of its own, so that worker processes can import it.
"""

import os
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.distributions import MultivariateNormal

from sbi_aalr.comparison import Method


class Task:
    """theta ~ N(0, 1), x = theta + N(0, 1), as if the exact posterior were unknown."""

    prior = MultivariateNormal(torch.zeros(2), torch.eye(2), validate_args=False)

    def simulate(self, theta):
        return theta + torch.randn_like(theta)


class Network(nn.Module):
    """The exact posterior, times a scale that is learnt from the simulations."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("stand", torch.zeros(4))

    def sample(self, sample_shape, condition):
        noise = torch.randn(*sample_shape, len(condition), 2)
        return condition / 2 + noise * self.scale / 2**0.5

    def log_prob(self, rows, condition):
        return -((rows - condition / 2) / self.scale).square().sum(-1)


class Potential:
    def __init__(self, network):
        self.posterior_estimator = network


class Posterior:
    def __init__(self, network, trainer):
        self.network, self.trainer, self.x = network, trainer, None
        self.potential_fn = Potential(network)

    def set_default_x(self, x):
        self.x = x
        return self

    def sample(self, sample_shape, x=None, show_progress_bars=True):
        self.trainer.note("sample")
        time.sleep(self.trainer.seconds)
        if self.trainer.fails == "sample":
            raise RuntimeError("chains fell over")
        return self.network.sample(sample_shape, self.x if x is None else x)[:, 0]

    def potential(self, theta, x):
        return self.network.log_prob(theta, x)


class Trainer:
    """A trainer as sbi's are called, whose log has a line for whatever it does."""

    def __init__(self, log, prior, tracker, show_progress_bars, seconds=0.0, fails=""):
        assert not show_progress_bars and tracker.log_dir is None
        self.log, self.seconds, self.fails = Path(log), seconds, fails
        self.rows = []

    def note(self, what):
        with self.log.open("a") as file:
            file.write(f"{what} {os.getpid()} {torch.get_num_threads()}\n")

    def append_simulations(self, theta, x, from_round=0):
        self.rows.append((theta, x))
        return self

    def train(self):
        self.note("train")
        print("sbi prints here")
        time.sleep(self.seconds)
        if self.fails == "train":
            raise ValueError("loss is NaN")
        network = Network()
        theta, x = (torch.cat(part) for part in zip(*self.rows, strict=True))
        network.scale.fill_(float((theta - x / 2).std()) * 2**0.5)
        # Where the generator stands, as what training draws depends on it.
        network.stand.copy_(torch.rand(4))
        return network

    def build_posterior(self, network):
        return Posterior(network, self)

    def _build_neural_net(self, theta, x):
        return Network()


def make_method(log, rounds=1, **settings):
    return Method(partial(Trainer, str(log), **settings), rounds)
