"""Bad inputs of posteriors."""

import torch
from bad_inputs import (
    NAN,
    NO_BOOL,
    NO_COUNT,
    NO_DEVICE,
    NO_INDEX,
    NO_NAMES,
    NO_OPTIONAL_COUNT,
    NO_POSITIVE,
    NO_PRIOR,
    NO_X,
    list_keywords,
    list_values,
)
from linear_gaussian import PRIOR, SHORT, X_O, log_ratio
from torch.distributions import Normal

from sbi_aalr import MHPosterior, MHPosteriorParameters
from sbi_aalr.mcmc import from_proposal


def list_posteriors():
    yield from list_values(
        "MHPosterior",
        "potential_fn",
        (3, "potential", None),
        lambda ready, value: MHPosterior(value, PRIOR),
    )
    potential = lambda theta, x_o: log_ratio(theta, x_o)  # noqa: E731
    yield from list_keywords(
        "MHPosterior",
        lambda ready, **bad: MHPosterior(potential, **{"proposal": PRIOR, **bad}),
        [
            ("proposal", ("x", 3, Normal(0.0, 1.0))),
            ("parameters", ({}, 3, "fast", MHPosteriorParameters)),
            ("device", NO_DEVICE),
            ("parameter_names", NO_NAMES),
        ],
    )
    yield from list_values(
        "from_estimator",
        "estimator",
        (3, None, torch.nn.Linear(2, 1), "net"),
        lambda ready, value: MHPosterior.from_estimator(value, PRIOR),
    )
    yield from list_values(
        "from_estimator",
        "prior",
        (*NO_PRIOR, None),
        lambda ready, value: MHPosterior.from_estimator(ready.estimator, value),
    )
    settings = [
        ("num_candidates max_steps", NO_COUNT),
        ("thin num_chains max_batch_size", NO_OPTIONAL_COUNT),
        ("warmup_steps", (-1, 0.5, "9", True, NAN)),
        ("init_strategy", ("best", 3, None)),
        ("max_rhat", (1.0, 0.5, -1, NAN, "1.01", True)),
        ("min_ess", NO_POSITIVE),
        ("kernel", ("nuts", 3, None, ["hmc"], from_proposal)),
    ]
    yield from list_keywords(
        "parameters", lambda ready, **bad: MHPosteriorParameters(**bad), settings
    )
    calls = {
        "sample": lambda ready, **bad: ready.posterior.sample(
            **{"sample_shape": (5,), "x": X_O, **SHORT, **bad}
        ),
        "sample_batched": lambda ready, **bad: ready.posterior.sample_batched(
            **{"sample_shape": (5,), "x": X_O[None], **SHORT, **bad}
        ),
    }
    shapes = (5, "5", None, (0,), (-3,), (2.5,), (True,), ("a",), {5}, (10**7, 10**6))
    huge = [("num_chains", (10**10,)), ("num_candidates", (10**12,))]
    for where, call in calls.items():
        yield from list_keywords(
            where,
            call,
            [
                ("sample_shape", shapes),
                ("x", NO_X),
                ("seed", NO_INDEX),
                ("show_progress_bars", NO_BOOL),
                ("out", ("", "draws", "draws.txt", "nowhere/draws.nc", "/dev/null")),
            ],
        )
        yield from list_keywords(where, call, settings)
        yield from list_keywords(f"{where}-huge", call, huge)
    for where in ("log_prob", "potential"):
        yield from list_values(
            where,
            "theta",
            (
                "a",
                None,
                [],
                torch.zeros(4, 3),
                torch.zeros(1, 1, 2),
                torch.tensor([NAN, 0]),
            ),
            lambda ready, value, where=where: getattr(ready.posterior, where)(
                value, x=X_O
            ),
        )
        yield from list_values(
            where,
            "track_gradients",
            NO_BOOL,
            lambda ready, value, where=where: getattr(ready.posterior, where)(
                torch.zeros(1, 2), x=X_O, track_gradients=value
            ),
        )
    for where in ("set_default_x", "normaliser"):
        yield from list_values(
            where,
            "x",
            NO_X,
            lambda ready, value, where=where: getattr(ready.posterior, where)(value),
        )
    yield from list_values(
        "to", "device", NO_DEVICE, lambda ready, value: ready.posterior.to(value)
    )
    yield from list_values(
        "load",
        "device",
        NO_DEVICE,
        lambda ready, value: MHPosterior.load(ready.folder, device=value),
    )
    yield from list_values(
        "load",
        "folder",
        (3, None, [], "", b"run", "nowhere"),
        lambda ready, value: MHPosterior.load(value),
    )
    yield from list_values(
        "load",
        "prior",
        (3, "uniform", torch.zeros(2), []),
        lambda ready, value: MHPosterior.load(ready.folder, prior=value),
    )
    yield from list_keywords(
        "report",
        lambda ready, **bad: ready.posterior.report(
            **{"path": ready.folder / "page.html", **bad}
        ),
        [
            ("num_simulations", NO_COUNT),
            ("seed", (*NO_INDEX, None)),
            ("truth", (torch.zeros(3), torch.tensor([NAN, 0.0]), "truth")),
            ("parameter_names", NO_NAMES),
            ("path", (".", "")),
            ("title", (3, ["a"], object())),
            ("training", (3, "loss", [0.5], torch.zeros(2))),
        ],
    )
    for where in ("diagnostics", "to_datatree", "summary"):
        yield from list_values(
            where,
            "parameter_names",
            NO_NAMES,
            lambda ready, value, where=where: getattr(ready.posterior, where)(value),
        )
