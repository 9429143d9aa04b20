"""The default recipe: what is trained for how long, by the size of the budget.

Numbers were chosen by held-out loss on SLCP: `benchmarks/estimator_ablation.py` changes
one part at a time.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sbi_aalr.checks import check_field, check_positive_float, check_positive_int


class Recipe(NamedTuple):
    """How an estimator is trained.

    Attributes:
        batch_size: Simulations in a step.
        num_passes: Passes over the simulations, fewer if the time limit comes first;
            None for as many as the held-out loss allows.
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


@dataclass(frozen=True)
class TrainingSettings:
    """What a user may set in every way of training.

    Args:
        batch_size: Simulations in a step; None for the recipe's.
        learning_rate: Largest learning rate of AdamW; None for the recipe's.
        clip_max_norm: Largest norm of the gradient; None for no limit.
        time_limit: Seconds after which to end; None for no limit.

    Raises:
        TypeError: If one is no number.
        ValueError: If one is not positive.
    """

    batch_size: int | None = None
    learning_rate: float | None = None
    clip_max_norm: float | None = 5.0
    time_limit: float | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            check_field(self, "batch_size", check_positive_int)
        for name in ("learning_rate", "clip_max_norm", "time_limit"):
            if getattr(self, name) is not None:
                check_field(self, name, check_positive_float)


class Entry(NamedTuple):
    """What suits budgets from some size on.

    Attributes:
        least_simulations: Smallest budget it is for, in simulations.
        towers: Arguments of `networks.two_towers`.
        recipe: How these towers are trained on all pairs of a batch.
    """

    least_simulations: int
    towers: dict[str, Any]
    recipe: Recipe


# Whoever simulates on the way gains more from more simulations than from more passes.
_MOST_STREAMED_PASSES = 8
# Seconds within which a network for many simulations would see too few of them.
_SHORT = 60.0
_ENTRIES = [
    Entry(
        0,
        {"hidden_features": 128, "num_blocks": 2, "dropout": 0.5, "num_octaves": 3},
        Recipe(128, 60, 2e-3, 0.02, weight_decay=0.1),
    ),
    Entry(
        5_000,
        {"hidden_features": 128, "num_blocks": 2, "dropout": 0.5, "num_octaves": 3},
        Recipe(256, 40, 2e-3, 0.02, weight_decay=0.1),
    ),
    Entry(
        50_000,
        {"hidden_features": 192, "num_blocks": 4, "dropout": 0.2, "num_octaves": 4},
        Recipe(512, 20, 2e-3, 0.02, weight_decay=0.1),
    ),
    Entry(
        500_000,
        {"hidden_features": 192, "num_blocks": 4, "dropout": 0.1, "num_octaves": 6},
        Recipe(1024, 4, 2e-3, 0.02, weight_decay=0.1),
    ),
    Entry(
        5_000_000,
        {"hidden_features": 192, "num_blocks": 4, "num_octaves": 6},
        Recipe(1024, 1, 2e-3, 0.02),
    ),
]
# In the place of all rows for as many simulations or more, where time is short.
_HURRIED = Entry(
    50_000,
    {"hidden_features": 128, "num_blocks": 2, "num_octaves": 9},
    Recipe(512, 4, 3e-3, 0.04),
)


def find_entry(num_simulations: int, time_limit: float | None = None) -> Entry:
    """Look up what suits a budget.

    Args:
        num_simulations: Budget, in simulations.
        time_limit: Seconds to train for; None for no limit.

    Returns:
        The towers and their recipe.

    Example:
        >>> find_entry(1_000_000).towers["hidden_features"]
        192
    """
    *_, usual = (e for e in _ENTRIES if e.least_simulations <= num_simulations)
    is_short = time_limit is not None and time_limit < _SHORT
    if is_short and num_simulations >= _HURRIED.least_simulations:
        # A limit never makes training longer.
        num_passes = usual.recipe.num_passes
        return _HURRIED._replace(recipe=_HURRIED.recipe._replace(num_passes=num_passes))
    return usual


def choose_recipe(
    entry: Entry,
    num_simulations: int,
    settings: TrainingSettings | None = None,
    *,
    is_separable: bool,
    is_streamed: bool,
    num_passes: int | None = None,
    most_passes: int | None = None,
) -> Recipe:
    """Decide how to train: what the user wants, else what suits the budget.

    Args:
        entry: What `find_entry` found for the budget.
        num_simulations: Simulations in a pass.
        settings: What the user set.
        is_separable: Whether the network is trained on all pairs of a batch. Others
            are trained as the paper does online, and as sbi does on stored simulations.
        is_streamed: Whether the simulations are made on the way.
        num_passes: Passes that the user wants; None for the recipe's.
        most_passes: Passes after which to end in any case; None for no limit.

    Returns:
        The recipe, with batches no larger than there are simulations.

    Example:
        >>> few = find_entry(10)
        >>> choose_recipe(few, 10, is_separable=True, is_streamed=False)[:2]
        (10, 60)
        >>> choose_recipe(few, 10, is_separable=True, is_streamed=True, num_passes=2)[1]
        2
    """
    settings = settings or TrainingSettings()
    if is_separable:
        recipe = entry.recipe
    elif is_streamed:
        recipe = Recipe(batch_size=256, num_passes=1, learning_rate=5e-3)
    else:
        recipe = Recipe(batch_size=200, num_passes=None, learning_rate=5e-4)
    usual = recipe.num_passes
    if usual is not None and is_streamed:
        usual = min(usual, _MOST_STREAMED_PASSES)
    limits = [count for count in (usual, most_passes) if count is not None]
    return recipe._replace(
        batch_size=min(settings.batch_size or recipe.batch_size, num_simulations),
        learning_rate=settings.learning_rate or recipe.learning_rate,
        num_passes=num_passes or min(limits, default=None),
    )
