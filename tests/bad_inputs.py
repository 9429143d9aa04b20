"""Bad inputs for every public function: what is called, and which argument is at fault.

A row is a name, a call of a few objects that are ready, and the argument that the
message must name. The values are those that people pass by mistake: another type,
another sign, NaN, a string from a form, nothing.
"""

import math
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from linear_gaussian import PRIOR, SHORT, X_O, build_quadratic, log_ratio, simulate
from torch.distributions import Normal, Poisson

from sbi_aalr import (
    AALR,
    MHPosterior,
    MHPosteriorParameters,
    RatioLoss,
    comparison,
    diagnostics,
    networks,
    simulators,
)
from sbi_aalr import average_log_ratios as average
from sbi_aalr.mcmc import from_proposal, mix

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


def _list(where, argument, values, call):
    """A case for each value, for an argument of one function."""
    for index, value in enumerate(values):
        yield Case(
            f"{where}-{argument}-{index}",
            lambda ready, value=value: call(ready, value),
            argument,
        )


def _list_keywords(where, call, table):
    """Cases for keyword arguments that share their values."""
    for arguments, values in table:
        for argument in arguments.split():
            yield from _list(
                where,
                argument,
                values,
                lambda ready, value, argument=argument: call(
                    ready, **{argument: value}
                ),
            )


def _list_trainer():
    yield from _list_keywords(
        "AALR",
        lambda ready, **bad: AALR(**{"prior": PRIOR, **bad}),
        [
            (
                "prior",
                (3, "uniform", Normal(torch.zeros(2), 1.0), Poisson(torch.ones(2))),
            ),
            (
                "classifier",
                ("transformer", 3, None, torch.nn.Linear(2, 1)),
            ),
            ("loss", ("bce", 3, RatioLoss)),
            ("device", NO_DEVICE),
        ],
    )
    yield from _list_keywords(
        "train_online",
        lambda ready, **bad: make_trainer().train_online(
            **{"simulator": simulate, "num_simulations": 100, **bad}
        ),
        [
            ("simulator", (None, 3, "simulate", [simulate])),
            ("num_simulations", NO_COUNT),
            ("batch_size num_passes", NO_OPTIONAL_COUNT),
            ("learning_rate clip_max_norm time_limit", NO_POSITIVE),
            ("seed", NO_INDEX),
        ],
    )
    yield from _list_keywords(
        "train",
        lambda ready, **bad: make_stored().train(**bad),
        [
            ("training_batch_size", (*NO_OPTIONAL_COUNT, 1)),
            ("stop_after_epochs max_num_epochs", NO_OPTIONAL_COUNT),
            ("learning_rate clip_max_norm time_limit", NO_POSITIVE),
            ("validation_fraction", NO_FRACTION),
            ("seed", NO_INDEX),
        ],
    )
    yield from _list_keywords(
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
    bad_theta += (theta + 0j, theta.unsqueeze(0), theta / 0)
    yield from _list(
        "append_simulations",
        "theta",
        bad_theta,
        lambda ready, value: make_trainer().append_simulations(value, x),
    )
    bad_x = (None, "a", [[1.0]], x[0, 0], x[:0], x + 1j, x * NAN)
    yield from _list(
        "append_simulations",
        "x",
        bad_x,
        lambda ready, value: make_trainer().append_simulations(theta, value),
    )
    yield from _list(
        "append_simulations",
        "from_round",
        NO_INDEX,
        lambda ready, value: make_trainer().append_simulations(
            theta, x, from_round=value
        ),
    )
    yield from _list_keywords(
        "build_posterior",
        lambda ready, **bad: ready.trainer.build_posterior(**bad),
        [
            ("density_estimator", (3, "net", torch.nn.Linear(2, 1))),
            ("prior", NO_PRIOR[:4]),
            ("sample_with", ("nuts", 3, None)),
        ],
    )
    yield from _list_keywords(
        "RatioLoss",
        lambda ready, **bad: RatioLoss(**bad),
        [
            ("num_contrasts", NO_OPTIONAL_COUNT),
            ("cross_entropy info_nce balance", (-1.0, NAN, INF, "1", True)),
        ],
    )


def _list_posterior():
    yield from _list(
        "MHPosterior",
        "potential_fn",
        (3, "potential", None),
        lambda ready, value: MHPosterior(value, PRIOR),
    )
    potential = lambda theta, x_o: log_ratio(theta, x_o)  # noqa: E731
    yield from _list_keywords(
        "MHPosterior",
        lambda ready, **bad: MHPosterior(potential, **{"proposal": PRIOR, **bad}),
        [
            ("proposal", ("x", 3, Normal(0.0, 1.0))),
            ("parameters", ({}, 3, "fast", MHPosteriorParameters)),
            ("device", NO_DEVICE),
            ("parameter_names", NO_NAMES),
        ],
    )
    yield from _list(
        "from_estimator",
        "estimator",
        (3, None, torch.nn.Linear(2, 1), "net"),
        lambda ready, value: MHPosterior.from_estimator(value, PRIOR),
    )
    yield from _list(
        "from_estimator",
        "prior",
        (*NO_PRIOR, None),
        lambda ready, value: MHPosterior.from_estimator(ready.estimator, value),
    )
    settings = [
        ("thin num_candidates max_steps", NO_COUNT),
        ("num_chains max_batch_size", NO_OPTIONAL_COUNT),
        ("warmup_steps", (-1, 0.5, "9", True, NAN)),
        ("max_rhat", (1.0, 0.5, -1, NAN, "1.01", True)),
        ("min_ess", NO_POSITIVE),
        ("kernel", ("nuts", 3, None, ["hmc"], from_proposal)),
    ]
    yield from _list_keywords(
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
    shapes = (5, "5", None, (0,), (-3,), (2.5,), (True,), ("a",), {5})
    for where, call in calls.items():
        yield from _list_keywords(
            where,
            call,
            [
                ("sample_shape", shapes),
                ("x", NO_X),
                ("seed", NO_INDEX),
                ("out", ("", "draws", "draws.txt", "nowhere/draws.nc", "/dev/null")),
            ],
        )
        yield from _list_keywords(where, call, settings)
    for where in ("log_prob", "potential"):
        yield from _list(
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
    for where in ("set_default_x", "normaliser"):
        yield from _list(
            where,
            "x",
            NO_X,
            lambda ready, value, where=where: getattr(ready.posterior, where)(value),
        )
    yield from _list(
        "to", "device", NO_DEVICE, lambda ready, value: ready.posterior.to(value)
    )
    yield from _list(
        "load",
        "device",
        NO_DEVICE,
        lambda ready, value: MHPosterior.load(ready.folder, device=value),
    )
    yield from _list_keywords(
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
        ],
    )
    for where in ("diagnostics", "to_datatree", "summary"):
        yield from _list(
            where,
            "parameter_names",
            NO_NAMES,
            lambda ready, value, where=where: getattr(ready.posterior, where)(value),
        )


def _list_diagnostics():
    theta, x = pairs()
    few = {"num_simulations": 200, "seed": 1}
    yield from _list_keywords(
        "ratio_roc",
        lambda ready, **bad: diagnostics.ratio_roc(
            **{
                "log_ratio": log_ratio,
                "simulator": simulate,
                "prior": PRIOR,
                "theta": theta[0],
                **few,
                **bad,
            }
        ),
        [
            ("log_ratio", (3, "ratio", lambda theta, x: theta, lambda theta, x: 3.0)),
            ("simulator", (3, None, "simulate")),
            ("prior", NO_PRIOR[:4]),
            ("theta", (torch.zeros(3), [0.0], "theta", None, torch.tensor([NAN, 0.0]))),
            ("num_simulations", NO_COUNT),
            ("false_alarm_rate", NO_FRACTION),
            ("min_effective_sample_size", NO_POSITIVE),
            ("seed", NO_INDEX),
        ],
    )
    yield from _list_keywords(
        "ratio_normalisation",
        lambda ready, **bad: diagnostics.ratio_normalisation(
            **{
                "log_ratio": log_ratio,
                "prior": PRIOR,
                "x": x[:2],
                "num_draws": 50,
                **bad,
            }
        ),
        [
            ("log_ratio", (3, None)),
            ("prior", NO_PRIOR[:4]),
            ("x", (None, "x", x[0], x[:0], x * NAN)),
            ("num_draws", NO_COUNT),
            ("false_alarm_rate", NO_FRACTION),
            ("seed", NO_INDEX),
        ],
    )
    yield from _list_keywords(
        "classifier_balance",
        lambda ready, **bad: diagnostics.classifier_balance(
            **{
                "log_ratio": log_ratio,
                "simulator": simulate,
                "prior": PRIOR,
                **few,
                **bad,
            }
        ),
        [
            ("log_ratio", (3, None)),
            ("simulator", (3, None)),
            ("num_simulations", NO_COUNT),
            ("false_alarm_rate", NO_FRACTION),
            ("seed", NO_INDEX),
        ],
    )
    yield from _list_keywords(
        "expected_coverage",
        lambda ready, **bad: diagnostics.expected_coverage(
            **{"posterior": ready.posterior, "theta": theta, "x": x, **bad}
        ),
        [
            ("posterior", (3, None, "posterior")),
            ("theta", (None, theta[0], theta[:3], theta * NAN)),
            ("x", (None, "x", x[0], x * NAN)),
            ("num_samples", NO_COUNT),
            ("false_alarm_rate", NO_FRACTION),
            ("parameter_names", NO_NAMES),
            ("seed", NO_INDEX),
        ],
    )
    chains = torch.randn(4, 50, 2)
    bad_draws = (None, "draws", 3.0, chains[0, 0], chains[:, :0], [["a"]])
    for where in ("measure_convergence", "warn_if_not_converged", "plot_trace_rank"):
        function = getattr(diagnostics, where)
        yield from _list(
            where, "draws", bad_draws, lambda ready, value, call=function: call(value)
        )
        yield from _list(
            where,
            "parameter_names",
            NO_NAMES,
            lambda ready, value, call=function: call(chains, parameter_names=value),
        )
    yield from _list_keywords(
        "plot_corner",
        lambda ready, **bad: diagnostics.plot_corner(**{"samples": chains, **bad}),
        [
            ("samples", (None, "draws", chains * NAN)),
            ("truth", ([0.0], "truth", [NAN, 0.0])),
            ("reference", (torch.zeros(0, 2), torch.zeros(5, 3), "reference")),
            ("parameter_names", NO_NAMES),
        ],
    )
    tree = diagnostics.to_datatree(chains)
    yield from _list_keywords(
        "summary",
        lambda ready, **bad: diagnostics.summary(tree, **bad),
        [("truth", ([0.0], "truth")), ("ci_prob", NO_FRACTION)],
    )
    yield from _list_keywords(
        "measure_misspecification",
        lambda ready, **bad: diagnostics.measure_misspecification(
            **{"x_o": x[:1], "x": torch.randn(200, 2), **bad}
        ),
        [
            ("x_o", (None, "x", x[0], x[:1] * NAN)),
            ("x", (None, x, torch.zeros(200, 3))),
        ],
    )


def _list_networks():
    theta, x = pairs()
    builders = {
        "two_towers": networks.two_towers,
        "residual_mlp": networks.residual_mlp,
    }
    for where, builder in builders.items():
        table = [
            ("hidden_features num_blocks", NO_COUNT),
            ("dropout", (-0.1, 1.0, 2, NAN, "0.5", True)),
        ]
        if where == "two_towers":
            table.append(("num_octaves", (-1, 2.5, "9", True)))
        yield from _list_keywords(
            where,
            lambda ready, builder=builder, **bad: builder(**bad)(theta, x),
            table,
        )
    yield from _list(
        "mlp",
        "hidden_features",
        ([0], [-3], [2.5], ["9"], 3, "256", [True]),
        lambda ready, value: networks.mlp(value)(theta, x),
    )
    yield from _list(
        "average_log_ratios",
        "estimators",
        ([], [3], [torch.nn.Linear(2, 1)]),
        lambda ready, value: average(value),
    )
    yield from _list(
        "mix",
        "probabilities",
        ([], [0.5], [0.5, 0.6], [1.5, -0.5], [NAN, 0.5]),
        lambda ready, value: mix(
            [from_proposal(lambda g, p: p), from_proposal(lambda g, p: p)], value
        ),
    )
    yield from _list(
        "from_proposal",
        "propose",
        (3, None, "walk"),
        lambda ready, value: from_proposal(value),
    )


def _list_simulators():
    for name in simulators.__all__:
        make = getattr(simulators, name)
        yield from _list(
            name,
            "theta",
            (None, "a", torch.zeros(3, 1), torch.tensor([[NAN] * 20])),
            lambda ready, value, make=make: make().simulate(value),
        )
    for name, argument in product(
        ("SLCP", "TwoMoons", "GaussianLinear"), ("num_samples", "seed")
    ):
        make = getattr(simulators, name)

        def call(ready, value, make=make, argument=argument):
            task = make()
            x_o = task.simulate(task.prior.sample((1,)))
            arguments = {"num_samples": 5, "x_o": x_o, "seed": 1, argument: value}
            return task.sample_posterior(**arguments)

        values = NO_COUNT if argument == "num_samples" else NO_INDEX
        yield from _list(name, argument, values, call)


def _list_comparison():
    yield from _list_keywords(
        "compare",
        lambda ready, **bad: comparison.compare(
            **{
                "tasks": ["two_moons"],
                "methods": ["npe"],
                "budgets": [20],
                "out": ready.folder / "compare",
                "show_progress_bars": False,
                **bad,
            }
        ),
        [
            ("tasks", ("two_moons", ["nowhere"], [], 3, None)),
            ("methods", ("npe", ["magic"], [], 3, None)),
            ("budgets", ([0], [-3], [2.5], ["9"], [], 20, None)),
            ("seeds", ([-1], [1.5], ["1"], [], 1, None)),
            ("observations num_samples", NO_COUNT),
            ("workers", NO_OPTIONAL_COUNT),
        ],
    )


CASES = [
    *_list_trainer(),
    *_list_posterior(),
    *_list_diagnostics(),
    *_list_networks(),
    *_list_simulators(),
    *_list_comparison(),
]
