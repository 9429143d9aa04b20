"""Searches by trial for one weight decay and one dropout rate.

Each yields a decay, a rate, and what to tell the held-out loss that they came to.
"""

import math
from collections.abc import Callable, Iterator

import torch

# Where they are searched.
DECAYS, DROPOUTS = (1e-3, 10.0), (0.0, 0.8)


def propose_at_random(seed: int) -> Iterator[tuple[float, float, Callable]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        first, second = torch.rand(2, generator=generator).tolist()
        low, high = map(math.log, DECAYS)
        decay = math.exp(low + first * (high - low))
        yield decay, DROPOUTS[0] + second * (DROPOUTS[1] - DROPOUTS[0]), lambda _: None


def propose_by_tpe(seed: int) -> Iterator[tuple[float, float, Callable]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    while True:
        trial = study.ask()
        decay = trial.suggest_float("decay", *DECAYS, log=True)
        dropout = trial.suggest_float("dropout", *DROPOUTS)
        yield decay, dropout, lambda loss, trial=trial: study.tell(trial, loss)


PROPOSALS = {"random": propose_at_random, "tpe": propose_by_tpe}
