"""Bad inputs of trainers and losses."""

import torch
from bad_inputs import (
    INF,
    NAN,
    NO_BOOL,
    NO_COUNT,
    NO_DEVICE,
    NO_FRACTION,
    NO_INDEX,
    NO_OPTIONAL_COUNT,
    NO_POSITIVE,
    NO_PRIOR,
    list_keywords,
    list_values,
    make_stored,
    make_trainer,
    pairs,
)
from linear_gaussian import PRIOR, X_O, build_quadratic, simulate
from torch.distributions import Normal, Poisson

from sbi_aalr import AALR, RatioLoss
from sbi_aalr.trainer.no_tracker import NoTracker


def list_trainers():
    yield from list_keywords(
        "AALR",
        lambda ready, **bad: AALR(**{"prior": PRIOR, **bad}),
        [
            (
                "prior",
                (3, "uniform", Normal(torch.zeros(2), 1.0), Poisson(torch.ones(2))),
            ),
            (
                "classifier",
                (
                    "transformer",
                    3,
                    None,
                    torch.nn.Linear(2, 1),
                    build_quadratic(*pairs()),
                ),
            ),
            ("loss", ("bce", 3, RatioLoss)),
            ("device", NO_DEVICE),
            ("show_progress_bars", NO_BOOL),
            ("logging_level", ("loud", -1, 2.5, None, [])),
            ("tracker", (3, "runs", [], NoTracker)),
            ("summary_writer", (3, "runs", [])),
        ],
    )
    yield from list_keywords(
        "train_online",
        lambda ready, **bad: make_trainer().train_online(
            **{"simulator": simulate, "num_simulations": 100, **bad}
        ),
        [
            ("simulator", (None, 3, "simulate", [simulate])),
            ("num_simulations", (*NO_COUNT, 10**30)),
            ("retrain_from_scratch", NO_BOOL),
            ("batch_size num_passes", NO_OPTIONAL_COUNT),
            ("learning_rate clip_max_norm time_limit", NO_POSITIVE),
            ("seed", NO_INDEX),
        ],
    )
    yield from list_keywords(
        "train",
        lambda ready, **bad: make_stored().train(**bad),
        [
            ("training_batch_size", (*NO_OPTIONAL_COUNT, 1)),
            ("stop_after_epochs max_num_epochs", NO_OPTIONAL_COUNT),
            ("learning_rate clip_max_norm time_limit", NO_POSITIVE),
            ("validation_fraction", NO_FRACTION),
            ("seed", NO_INDEX),
            ("resume_training discard_prior_samples", NO_BOOL),
            ("retrain_from_scratch show_train_summary", NO_BOOL),
            ("tune", (None, 1, "wings", ["octaves", 3], [], "learning_rate")),
        ],
    )
    builders = (lambda theta: theta, lambda theta, x: 3, lambda theta, x, size: size)
    yield from list_keywords(
        "AALR-train",
        lambda ready, **bad: (
            AALR(PRIOR, show_progress_bars=False, **bad)
            .append_simulations(*pairs())
            .train()
        ),
        [
            ("classifier", builders),
            ("embedding_net_x", (torch.nn.Linear(5, 3),)),
            ("exchangeable", (True,)),
        ],
    )
    yield from list_keywords(
        "train_truncated",
        lambda ready, **bad: make_trainer().train_truncated(
            **{"simulator": simulate, "x_o": X_O, "num_simulations": 100, **bad}
        ),
        [
            ("num_simulations num_rounds", NO_COUNT),
            ("epsilon", NO_FRACTION),
            ("time_limit", NO_POSITIVE),
            ("seed", NO_INDEX),
            ("x_o", (torch.zeros(2, 2), torch.zeros(3), torch.tensor([NAN, 0.0]), "x")),
        ],
    )
    theta, x = pairs()
    bad_theta = (None, "a", [[1.0]], theta[0], theta[:0], theta[:3], theta[:, :1])
    bad_theta += (theta + 0j, theta.unsqueeze(0), theta / 0, theta.to("meta"))
    yield from list_values(
        "append_simulations",
        "theta",
        bad_theta,
        lambda ready, value: make_trainer().append_simulations(value, x),
    )
    bad_x = (None, "a", [[1.0]], x[0, 0], x[:0], x + 1j, x * NAN, x.to("meta"))
    yield from list_values(
        "append_simulations",
        "x",
        bad_x,
        lambda ready, value: make_trainer().append_simulations(theta, value),
    )
    yield from list_values(
        "append_simulations",
        "from_round",
        NO_INDEX,
        lambda ready, value: make_trainer().append_simulations(
            theta, x, from_round=value
        ),
    )
    yield from list_values(
        "append_simulations",
        "exclude_invalid_x",
        NO_BOOL,
        lambda ready, value: make_trainer().append_simulations(
            theta, x, exclude_invalid_x=value
        ),
    )
    yield from list_keywords(
        "build_posterior",
        lambda ready, **bad: ready.trainer.build_posterior(**bad),
        [
            ("density_estimator", (3, "net", torch.nn.Linear(2, 1))),
            ("prior", NO_PRIOR[:4]),
            ("sample_with", ("nuts", 3, None)),
        ],
    )
    yield from list_keywords(
        "RatioLoss",
        lambda ready, **bad: RatioLoss(**bad),
        [
            ("num_contrasts", NO_OPTIONAL_COUNT),
            ("cross_entropy info_nce balance", (-1.0, NAN, INF, "1", True)),
        ],
    )
