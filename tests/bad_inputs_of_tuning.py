"""Bad inputs of hypergradients, of searches, and of what they tune."""

import torch
from bad_inputs import (
    INF,
    NAN,
    NO_COUNT,
    NO_FRACTION,
    NO_INDEX,
    NO_OPTIONAL_COUNT,
    NO_POSITIVE,
    NO_TENSOR,
    NO_TREE,
    list_keywords,
    list_values,
)
from torch import nn

from sbi_aalr.networks import two_towers
from sbi_aalr.tuning import (
    Augmentation,
    ColumnNoise,
    DropoutRates,
    OctaveGains,
    RatioHyperparameters,
    Search,
    TermWeights,
    WeightPenalty,
    hypergradient,
)

ROWS = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))
NO_MODULE = (3, "net", None, [nn.Linear(2, 1)], nn.Linear)
NO_NAME = (None, 3, "wings", "learning_rate", [], ["octaves", "octaves"], [3])
NO_NON_NEGATIVE = (-1.0, NAN, INF, "1", True)


def compute_loss(weights, knobs):
    return ((weights[0] - 1).square() + knobs[0] * weights[0].square()).sum()


def differentiate(**bad):
    given = {
        "validation_loss": lambda weights, knobs: weights[0].sum(),
        "training_loss": compute_loss,
        "weights": [torch.full((2,), 0.5)],
        "hyperparameters": [torch.ones(2)],
    }
    return hypergradient(**{**given, **bad})


def build_search(**bad):
    model = nn.Linear(2, 1)
    penalty = WeightPenalty(model)
    given = {
        "model": model,
        "hyperparameters": penalty,
        "training_loss": lambda: model(ROWS).square().mean() + penalty(model),
        "validation_loss": lambda: model(ROWS).square().mean(),
        "optimizer": torch.optim.SGD(model.parameters(), 0.1),
        "hyperparameter_optimizer": torch.optim.SGD(penalty.parameters(), 0.1),
    }
    return Search(**{**given, **bad})


def list_tuning():
    yield from list_keywords(
        "hypergradient",
        lambda ready, **bad: differentiate(**bad),
        [
            ("validation_loss training_loss", (None, 3, "loss", lambda *_: 3.0)),
            ("weights hyperparameters", (*NO_TREE, [], ())),
            ("inverse", ("newton", 3, None)),
            ("num_terms", NO_COUNT),
            ("scale", NO_POSITIVE),
            ("damping", NO_NON_NEGATIVE),
        ],
    )
    yield from list_keywords(
        "Search",
        lambda ready, **bad: build_search(**bad),
        [
            ("model hyperparameters", (*NO_MODULE, nn.ReLU())),
            ("optimizer hyperparameter_optimizer", (None, 3, "adam", [3])),
            ("inner_steps num_terms spectrum_every", NO_COUNT),
            ("clip_max_norm clip_hypergradient", NO_POSITIVE),
            ("damping", NO_NON_NEGATIVE),
            ("inverse", ("newton", 3, None)),
            ("seed", (*NO_INDEX, None)),
        ],
    )
    yield from list_keywords(
        "Search-run",
        lambda ready, **bad: build_search().run(**{"num_steps": 1, **bad}),
        [("num_steps", NO_COUNT), ("time_limit", NO_POSITIVE)],
    )
    for losses in ("training_loss", "validation_loss"):
        yield from list_values(
            "Search-run",
            losses,
            (None, 3, lambda: 3.0, lambda: torch.zeros(3), lambda: torch.tensor(NAN)),
            lambda ready, value, name=losses: build_search(**{name: value}).run(1),
        )
    yield from list_keywords(
        "WeightPenalty",
        lambda ready, **bad: WeightPenalty(**{"model": nn.Linear(2, 1), **bad}),
        [
            ("model", (*NO_MODULE, nn.ReLU())),
            ("per", ("row", 3, None)),
            ("start", NO_POSITIVE),
        ],
    )
    yield from list_values(
        "TermWeights",
        "starts",
        (3, None, ["a"], {}, {"a": 1.0}),
        lambda ready, value: TermWeights(value),
    )
    for kind in (ColumnNoise, Augmentation):
        yield from list_keywords(
            kind.__name__,
            lambda ready, kind=kind, **bad: kind(**{"batch": ROWS, **bad}),
            [("batch", (*NO_TENSOR, ROWS[:1], ROWS[0])), ("start", NO_POSITIVE)],
        )
    yield from list_keywords(
        "Augmentation",
        lambda ready, **bad: Augmentation(ROWS, **bad),
        [("hidden_features noise_features", NO_OPTIONAL_COUNT)],
    )
    yield from list_values(
        "DropoutRates",
        "start",
        NO_FRACTION,
        lambda ready, value: DropoutRates(nn.Dropout(0.5), value),
    )
    for kind in (DropoutRates, OctaveGains):
        yield from list_values(
            kind.__name__,
            "model",
            (*NO_MODULE, nn.Linear(2, 1)),
            lambda ready, value, kind=kind: kind(value),
        )
    estimator = two_towers(4, 1)(ROWS, ROWS)
    yield from list_values(
        "RatioHyperparameters",
        "tune",
        NO_NAME,
        lambda ready, value: RatioHyperparameters(value, estimator, ROWS, ROWS),
    )
