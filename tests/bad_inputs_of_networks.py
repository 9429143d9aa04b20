"""Bad inputs of networks, losses and kernels."""

import torch
from bad_inputs import (
    NAN,
    NO_BOOL,
    NO_COUNT,
    NO_PRIOR,
    NO_TENSOR,
    list_keywords,
    list_values,
    pairs,
)
from linear_gaussian import PRIOR

from sbi_aalr import TruncatedPrior, networks
from sbi_aalr import average_log_ratios as average
from sbi_aalr.mcmc import from_proposal, mix
from sbi_aalr.training import losses


def list_networks():
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
        yield from list_keywords(
            where,
            lambda ready, builder=builder, **bad: builder(**bad)(theta, x),
            table,
        )
    yield from list_values(
        "mlp",
        "hidden_features",
        ([0], [-3], [2.5], ["9"], 3, "256", [True]),
        lambda ready, value: networks.mlp(value)(theta, x),
    )
    yield from list_values(
        "average_log_ratios",
        "estimators",
        ([], [3], [torch.nn.Linear(2, 1)], 3, None, "ab"),
        lambda ready, value: average(value),
    )
    yield from list_values(
        "mix",
        "probabilities",
        ([], [0.5], [0.5, 0.6], [1.5, -0.5], [NAN, 0.5], 3, None, ["a", "b"]),
        lambda ready, value: mix(
            [from_proposal(lambda g, p: p), from_proposal(lambda g, p: p)], value
        ),
    )
    yield from list_values(
        "from_proposal",
        "propose",
        (3, None, "walk"),
        lambda ready, value: from_proposal(value),
    )
    yield from list_values(
        "from_proposal",
        "unconstrained",
        NO_BOOL,
        lambda ready, value: from_proposal(lambda g, p: p, unconstrained=value),
    )
    yield from list_values(
        "mix",
        "kernels",
        (3, None, ["hmc"], [from_proposal]),
        lambda ready, value: mix(value, [1.0]),
    )
    yield from list_values(
        "Scale",
        "batch",
        (*NO_TENSOR, torch.zeros(3), torch.zeros(0, 2), theta + 0j),
        lambda ready, value: networks.Scale(value),
    )
    yield from list_values(
        "Encode",
        "num_features",
        (*NO_COUNT, 10**30),
        lambda ready, value: networks.Encode(value),
    )
    for name in ("all_pairs_cross_entropy", "all_pairs_info_nce"):
        yield from list_values(
            name,
            "log_ratio",
            (*NO_TENSOR, torch.zeros(3), torch.zeros(2, 3)),
            lambda ready, value, name=name: getattr(losses, name)(value),
        )
    for name in ("binary_cross_entropy", "info_nce"):
        yield from list_keywords(
            name,
            lambda ready, name=name, **bad: getattr(losses, name)(
                **{
                    "log_ratio_joint": torch.zeros(3),
                    "log_ratio_marginal": torch.zeros(3, 2),
                    **bad,
                }
            ),
            [("log_ratio_joint log_ratio_marginal", (*NO_TENSOR, torch.zeros(9)))],
        )
    yield from list_keywords(
        "TruncatedPrior",
        lambda ready, **bad: TruncatedPrior(**{"prior": PRIOR, "cuts": (), **bad}),
        [("prior", NO_PRIOR[:3]), ("cuts", (3, None, ["cut"], ("cut",)))],
    )
