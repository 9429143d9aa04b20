"""Bad inputs of diagnostics."""

import torch
from bad_inputs import (
    NAN,
    NO_BOOL,
    NO_COUNT,
    NO_FRACTION,
    NO_INDEX,
    NO_NAMES,
    NO_POSITIVE,
    NO_PRIOR,
    NO_TREE,
    list_keywords,
    list_values,
    pairs,
)
from linear_gaussian import PRIOR, log_ratio, simulate

from sbi_aalr import diagnostics


def list_diagnostics():
    theta, x = pairs()
    few = {"num_simulations": 200, "seed": 1}
    yield from list_keywords(
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
    yield from list_keywords(
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
    yield from list_keywords(
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
    yield from list_keywords(
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
        yield from list_values(
            where, "draws", bad_draws, lambda ready, value, call=function: call(value)
        )
        yield from list_values(
            where,
            "parameter_names",
            NO_NAMES,
            lambda ready, value, call=function: call(chains, parameter_names=value),
        )
    yield from list_keywords(
        "warn_if_not_converged",
        lambda ready, **bad: diagnostics.warn_if_not_converged(chains, **bad),
        [
            ("max_rhat min_ess", NO_POSITIVE),
            ("batched", NO_BOOL[:2]),
            ("stacklevel", (0, 2.5, "2", None)),
        ],
    )
    yield from list_values(
        "plot_trace_rank",
        "observation",
        (-1, 7, 1.5, "0", [0], torch.zeros(2)),
        lambda ready, value: diagnostics.plot_trace_rank(chains, observation=value),
    )
    yield from list_keywords(
        "to_datatree",
        lambda ready, **bad: diagnostics.to_datatree(**{"chains": chains, **bad}),
        [
            ("chains", (3, "a", chains[0, 0])),
            ("warmup", (3.0, "a", chains[:2])),
            ("observed_data", ("a", object())),
            ("attributes", (3, "a", [1])),
            ("batched", NO_BOOL[:2]),
            ("convergence", (3, "a", chains)),
        ],
    )
    yield from list_values(
        "read_convergence",
        "tree",
        NO_TREE,
        lambda ready, value: diagnostics.read_convergence(value),
    )
    yield from list_keywords(
        "plot_corner",
        lambda ready, **bad: diagnostics.plot_corner(**{"samples": chains, **bad}),
        [
            ("samples", (None, "draws", chains * NAN)),
            ("truth", ([0.0], "truth", [NAN, 0.0])),
            ("reference", (torch.zeros(0, 2), torch.zeros(5, 3), "reference")),
            ("parameter_names", NO_NAMES),
            ("observation", (-1, 7, 1.5, "0", [0])),
        ],
    )
    tree = diagnostics.to_datatree(chains)
    yield from list_keywords(
        "summary",
        lambda ready, **bad: diagnostics.summary(**{"datatree": tree, **bad}),
        [
            ("datatree", NO_TREE),
            ("truth", ([0.0], "truth")),
            ("ci_prob", NO_FRACTION),
        ],
    )
    yield from list_keywords(
        "measure_misspecification",
        lambda ready, **bad: diagnostics.measure_misspecification(
            **{"x_o": x[:1], "x": torch.randn(200, 2), **bad}
        ),
        [
            ("x_o", (None, "x", x[0], x[:1] * NAN)),
            ("x", (None, x, torch.zeros(200, 3))),
        ],
    )
