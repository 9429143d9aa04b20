"""Calls that keep checkpoints."""

from pathlib import Path

import numpy as np
import torch
from linear_gaussian import PRIOR, draw_pairs, simulate
from trainers import make_trainer

from sbi_aalr import AALR, networks
from sbi_aalr.simulation import SimulationStore

X_O = torch.tensor([[0.3, -0.2]])
SMALL = networks.two_towers(8, 1)


class Killed(BaseException):
    """Ends a call as suddenly as a kill does, in this process."""


class Counted:
    """A simulator that counts its rows, and draws from NumPy's generator too."""

    def __init__(self):
        self.rows = 0

    def __call__(self, theta):
        self.rows += len(theta)
        return simulate(theta) + 0.01 * torch.tensor(np.random.randn(*theta.shape))


def train_online(folder, simulator=simulate, classifier=SMALL, **more):
    trainer = make_trainer(classifier)
    settings = {"num_simulations": 400, "batch_size": 50, "seed": 1, **more}
    settings.setdefault("num_passes", 4)
    trainer.train_online(simulator, **settings, **folder)
    return trainer


def train(folder, **more):
    theta, _, x = draw_pairs(300, 1)
    trainer = make_trainer(SMALL).append_simulations(theta, x)
    trainer.train(50, stop_after_epochs=2, seed=1, **more, **folder)
    return trainer


def train_from_a_store(folder):
    theta, _, x = draw_pairs(300, 1)
    store = SimulationStore(Path(folder["checkpoint"]).parent / "store")
    if not len(store):
        store.append(theta, x)
    trainer = make_trainer(SMALL).append_simulations(store)
    trainer.train(50, stop_after_epochs=2, seed=1, **folder)
    return trainer


def train_with_torchs_loader(folder):
    return train(folder, dataloader_kwargs={"num_workers": 0})


def train_truncated(folder):
    trainer = make_trainer(SMALL)
    trainer.train_truncated(simulate, X_O, 600, num_rounds=2, seed=1, **folder)
    return trainer


def train_once(folder):
    """Algorithm 1, which keeps no simulations."""
    return train_online(
        folder, classifier="selu_mlp", num_simulations=1_500, num_passes=1
    )


def stack(folder):
    trainer = AALR(PRIOR, show_progress_bars=False)
    trainer.train_online(simulate, 200, num_passes=2, seed=1, **folder)
    return trainer


def stack_in_rounds(folder):
    """The second round's densities of the data see what was cut off, too."""
    trainer = AALR(PRIOR, show_progress_bars=False)
    trainer.train_truncated(
        simulate, X_O, 300, num_rounds=2, epsilon=0.2, seed=1, **folder
    )
    return trainer


CALLS = {
    "online": train_online,
    "once": train_once,
    "stored": train,
    "from a store": train_from_a_store,
    "torch's loader": train_with_torchs_loader,
}


def are_same(first, second):
    ours, theirs = (t._neural_net.state_dict() for t in (first, second))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name in ("training_loss", "validation_loss", "learning_rate"):
        assert first.summary.get(name) == second.summary.get(name)
    return True
