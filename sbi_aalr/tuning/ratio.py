"""The hyperparameters of a ratio estimator by their names, together in one module."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from sbi_aalr.networks.encode import Encode
from sbi_aalr.tuning.augmentation import Augmentation
from sbi_aalr.tuning.noise import ColumnNoise, DropoutRates
from sbi_aalr.tuning.octaves import OctaveGains
from sbi_aalr.tuning.penalties import WeightPenalty

_Builder = Callable[..., nn.Module]
_BUILDERS: dict[str, _Builder] = {
    "weight_decay": lambda estimator, theta, x, **start: WeightPenalty(
        estimator, "layer", **start
    ),
    "each_weight_decay": lambda estimator, theta, x, **start: WeightPenalty(
        estimator, "weight", **start
    ),
    "octaves": lambda estimator, theta, x: OctaveGains(estimator),
    "dropout": lambda estimator, theta, x, **start: DropoutRates(estimator, **start),
    "theta_noise": lambda estimator, theta, x, **start: ColumnNoise(theta, **start),
    "x_noise": lambda estimator, theta, x, **start: ColumnNoise(x, **start),
    "augmentation": lambda estimator, theta, x, **start: Augmentation(x, **start),
}
# Noise in what a density is of would widen it, and may leave the prior's support.
_NOT_OF = {"theta_noise": "posterior", "x_noise": "likelihood"}
_NOT_OF["augmentation"] = "likelihood"
# What changes where training ends without standing in its loss.
_REFUSED = (
    "learning_rate",
    "matrix_learning_rate",
    "batch_size",
    "num_passes",
    "max_num_epochs",
    "stop_after_epochs",
    "clip_max_norm",
    "optimizer",
    "num_blocks",
    "num_layers",
    "hidden_features",
    "num_octaves",
    "num_contrasts",
)
TUNABLE = tuple(_BUILDERS)


class RatioHyperparameters(nn.Module):
    """What is tuned of a ratio estimator, and how it enters the training loss.

    Args:
        names: Which, of `"weight_decay"` (an L2 penalty a matrix or vector of weights),
            `"each_weight_decay"` (one a weight), `"octaves"` (gains of the input
            encoding), `"dropout"` (a rate a block), `"theta_noise"` and `"x_noise"` (a
            scale a column), `"augmentation"` (a network that perturbs x).
        estimator: The ratio estimator.
        theta: Parameters to take scales from, shape `(N, D)`.
        x: Data to take scales from, shape `(N, *event_shape)`.
        starts: Where some of them start, by name, other than by default; gains start
            at 1 in any case.

    Raises:
        TypeError: If `names` are no names.
        ValueError: If one is unknown, twice there, or what it tunes is not there.

    Example:
        >>> from sbi_aalr.networks import two_towers
        >>> theta, x = torch.randn(64, 2), torch.randn(64, 3)
        >>> estimator = two_towers(hidden_features=16)(theta, x)
        >>> knobs = RatioHyperparameters(["octaves", "x_noise"], estimator, theta, x)
        >>> sorted(knobs.summarise())
        ['octaves', 'x_noise']
        >>> RatioHyperparameters(["learning_rate"], estimator, theta, x)
        Traceback (most recent call last):
        ...
        ValueError: `tune` cannot have 'learning_rate': ...
    """

    def __init__(
        self,
        names: Iterable[str],
        estimator: nn.Module,
        theta: Tensor,
        x: Tensor,
        starts: Mapping[str, float | None] | None = None,
    ) -> None:
        super().__init__()
        given = {name: {"start": start} for name, start in (starts or {}).items()}
        self.parts = nn.ModuleDict(
            {
                name: _BUILDERS[name](estimator, theta, x, **given.get(name, {}))
                for name in check_names(names)
            }
        )

    def attach(self, estimator: nn.Module) -> None:
        """Let gains and dropout rates act inside an estimator, until `finish`."""
        for part in self.parts.values():
            if isinstance(part, OctaveGains | DropoutRates):
                part.attach(estimator)

    def detach(self) -> None:
        """Let the estimator be as it was before `attach`."""
        for part in self.parts.values():
            if isinstance(part, OctaveGains | DropoutRates):
                part.detach()

    def perturb(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Add noise and augmentation to a batch, in training.

        Args:
            theta: Parameters, shape `(N, D)`.
            x: Data, shape `(N, *event_shape)`.

        Returns:
            Both, of the same shapes.
        """
        if "theta_noise" in self.parts:
            theta = self.parts["theta_noise"](theta)
        for name in ("augmentation", "x_noise"):
            if name in self.parts:
                x = self.parts[name](x)
        return theta, x

    def penalise(self, estimator: nn.Module) -> Tensor:
        """The penalties of an estimator's weights, of no dimension; 0 without any."""
        penalties = [
            part(estimator)
            for part in self.parts.values()
            if isinstance(part, WeightPenalty)
        ]
        return torch.stack(penalties).sum() if penalties else torch.zeros(())

    def finish(self, estimator: nn.Module, theta: Tensor, x: Tensor) -> None:
        """Leave nothing outside an estimator: fold the gains, take the noise away.

        Args:
            estimator: The estimator that they are attached to.
            theta: A few parameters, shape `(N, D)`.
            x: As many data, shape `(N, *event_shape)`.
        """
        for part in self.parts.values():
            if isinstance(part, DropoutRates):
                part.detach()
            elif isinstance(part, OctaveGains):
                part.fold(estimator, theta, x)

    def summarise(self) -> dict[str, tuple[float, float, float]]:
        """The least, median and greatest value of each, in its own units.

        Penalties, scales in spreads, gains and rates are what they are; of an
        augmentation network it is the sizes of its weights.
        """
        found = {}
        for name, part in self.parts.items():
            if isinstance(part, DropoutRates):
                values = part.compute_rates()
            else:
                flat = torch.cat([p.flatten() for p in part.parameters()])
                values = flat.abs() if isinstance(part, Augmentation) else flat.exp()
            values = values.detach().double()
            ends = values.min(), values.median(), values.max()
            found[name] = ends[0].item(), ends[1].item(), ends[2].item()
        return found


def can_tune(name: str, estimator: nn.Module) -> bool:
    """Whether a ratio estimator has what a name tunes.

    Args:
        name: One of `TUNABLE`.
        estimator: The ratio estimator. Of a density, noise is for its condition only.
    """
    if name in _NOT_OF:
        return getattr(getattr(estimator, "net", None), "side", "") != _NOT_OF[name]
    if name == "octaves":
        return any(
            isinstance(m, Encode) and len(m.frequencies) for m in estimator.modules()
        )
    if name == "dropout":
        return any(isinstance(m, nn.Dropout) for m in estimator.modules())
    return any(p.requires_grad for p in estimator.parameters())


def check_names(names: Iterable[str]) -> list[str]:
    """Return the names of hyperparameters, or raise with the reason.

    Args:
        names: One name, or several.

    Raises:
        TypeError: If they are no names.
        ValueError: If there is none, one is unknown, or one is twice there.
    """
    found = [names] if isinstance(names, str) else names
    if not isinstance(found, Iterable):
        raise TypeError(f"`tune` must be names of what to tune, got {names!r}.")
    found = list(found)
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"`tune` must be names of what to tune, got {name!r}.")
        if name in _REFUSED:
            raise ValueError(
                f"`tune` cannot have {name!r}: it has no place in the training loss, "
                "so the fitted weights have no derivative in it, which tuning needs. "
                "Try a few values."
            )
        if name not in _BUILDERS:
            raise ValueError(
                f"`tune` must be of {', '.join(map(repr, TUNABLE))}, got {name!r}."
            )
    if not found or len(set(found)) < len(found):
        raise ValueError(
            f"`tune` must have at least one name and none twice, got {found!r}."
        )
    return found
