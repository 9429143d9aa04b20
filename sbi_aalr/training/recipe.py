"""The default recipe: what is trained for how long, by the size of the budget.

Numbers were chosen by held-out loss on SLCP: `benchmarks/estimator_ablation.py` changes
one part at a time.
"""

from typing import Any, NamedTuple


class Recipe(NamedTuple):
    """How an estimator is trained.

    Attributes:
        batch_size: Simulations in a step.
        num_passes: Passes over the simulations; None for as many as the time limit or
            the held-out loss allow.
        learning_rate: Largest learning rate of AdamW.
        matrix_learning_rate: Largest learning rate of Muon, which trains the matrices
            of gated blocks.
        weight_decay: Share of a weight, times the learning rate, taken off in a step.
    """

    batch_size: int
    num_passes: int | None
    learning_rate: float
    matrix_learning_rate: float = 0.02
    weight_decay: float = 0.0


# Who streams can have more simulations, which is better than more passes.
_MOST_STREAMED_PASSES = 8
# Seconds within which a network for many simulations would see too few of them.
_SHORT = 60.0
_Entry = tuple[int, dict[str, Any], Recipe]
# From how many simulations on, and what then: the network, and how it is trained.
_TOWERS: list[_Entry] = [
    (
        0,
        {"hidden_features": 128, "num_blocks": 2, "dropout": 0.5, "num_octaves": 3},
        Recipe(128, 60, 2e-3, 0.02, weight_decay=0.1),
    ),
    (
        5_000,
        {"hidden_features": 128, "num_blocks": 2, "dropout": 0.5, "num_octaves": 3},
        Recipe(256, 40, 2e-3, 0.02, weight_decay=0.1),
    ),
    (
        50_000,
        {"hidden_features": 192, "num_blocks": 4, "dropout": 0.2, "num_octaves": 4},
        Recipe(512, 20, 2e-3, 0.02, weight_decay=0.1),
    ),
    (
        500_000,
        {"hidden_features": 192, "num_blocks": 4, "dropout": 0.1, "num_octaves": 6},
        Recipe(1024, 4, 2e-3, 0.02, weight_decay=0.1),
    ),
    (
        5_000_000,
        {"hidden_features": 192, "num_blocks": 4, "num_octaves": 6},
        Recipe(1024, 1, 2e-3, 0.02),
    ),
]
# The last of these in so short a time.
_HURRIED: _Entry = (
    50_000,
    {"hidden_features": 128, "num_blocks": 2, "num_octaves": 9},
    Recipe(512, 4, 3e-3, 0.04),
)


def choose_towers(
    num_simulations: int, time_limit: float | None = None
) -> dict[str, Any]:
    """Settings of `two_towers` for a budget.

    Args:
        num_simulations: Budget, in simulations.
        time_limit: Seconds to train for; None for no limit.

    Returns:
        Arguments of `networks.two_towers`.

    Example:
        >>> choose_towers(1_000_000)["hidden_features"]
        192
    """
    return dict(_find(num_simulations, time_limit)[1])


def choose_recipe(
    num_simulations: int,
    time_limit: float | None = None,
    *,
    is_separable: bool,
    is_streamed: bool,
) -> Recipe:
    """How to train on a budget.

    Args:
        num_simulations: Budget, in simulations.
        time_limit: Seconds to train for; None for no limit.
        is_separable: Whether the network is trained on all pairs of a batch. Others
            are trained as the paper does online, and as sbi does on stored simulations.
        is_streamed: Whether the simulations are made on the way.

    Returns:
        The recipe.

    Example:
        >>> choose_recipe(10, is_separable=False, is_streamed=False).batch_size
        200
    """
    if is_separable:
        recipe = _find(num_simulations, time_limit)[2]
        if is_streamed and (recipe.num_passes or 0) > _MOST_STREAMED_PASSES:
            return recipe._replace(num_passes=_MOST_STREAMED_PASSES)
        return recipe
    if is_streamed:
        return Recipe(batch_size=256, num_passes=1, learning_rate=5e-3)
    return Recipe(batch_size=200, num_passes=None, learning_rate=5e-4)


def _find(num_simulations: int, time_limit: float | None) -> _Entry:
    is_short = time_limit is not None and time_limit < _SHORT
    if is_short and num_simulations >= _HURRIED[0]:
        return _HURRIED
    return [entry for entry in _TOWERS if entry[0] <= num_simulations][-1]
