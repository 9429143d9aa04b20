"""Bad inputs of simulators and comparisons."""

from itertools import product

import pandas as pd
import torch
from bad_inputs import (
    NAN,
    NO_COUNT,
    NO_DEVICE,
    NO_INDEX,
    NO_OPTIONAL_COUNT,
    NO_TENSOR,
    list_keywords,
    list_values,
)

from sbi_aalr import comparison, simulators

DRAWS = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))


def list_simulators():
    for name in simulators.__all__:
        make = getattr(simulators, name)
        yield from list_values(
            name,
            "device",
            (*NO_DEVICE, 3),
            lambda ready, value, make=make: make(device=value),
        )
        yield from list_values(
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
        yield from list_values(name, argument, values, call)


def list_comparison():
    yield from list_keywords(
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
    for name in ("mmd", "two_sample_scores"):
        yield from list_keywords(
            name,
            lambda ready, name=name, **bad: getattr(comparison, name)(
                **{"draws": DRAWS, "reference": DRAWS, **bad}
            ),
            [("draws reference", (*NO_TENSOR, DRAWS[0], DRAWS * NAN))],
        )
    yield from list_values(
        "two_sample_scores",
        "seed",
        NO_INDEX,
        lambda ready, value: comparison.two_sample_scores(DRAWS, DRAWS, seed=value),
    )
    for name in ("summarise", "plot_metric", "plot_wall_time"):
        yield from list_values(
            name,
            "table",
            (3, "table", None, {}, pd.DataFrame()),
            lambda ready, value, name=name: getattr(comparison, name)(value),
        )
    yield from list_values(
        "read_table",
        "folder",
        (3, None, "", []),
        lambda ready, value: comparison.read_table(value),
    )
