"""Penalties on weights and weights of loss terms, as hyperparameters.

Both are logarithms inside, so that they stay positive and a step is a factor.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sbi_aalr.checks import check_choice, check_positive_float

_GROUPS = ("weight", "layer", "model")


class WeightPenalty(nn.Module):
    r"""An L2 penalty, $\frac12 \sum_i \lambda_i w_i^2$, with $\lambda$ to be tuned.

    Args:
        model: The module whose weights are penalised, those that need a gradient.
        per: `"weight"` for a penalty for every single weight, as many hyperparameters
            as weights; `"layer"` for one for each of its matrices and vectors;
            `"model"` for one in all.
        start: Where all of them start. Far below what helps, nothing is felt of them,
            and the search takes long to get there.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `per` is unknown, `start` is not positive, or there is nothing to
            penalise.

    References:
        Lorraine, Vicol & Duvenaud (2020), arXiv:1911.02590, section 5.2, for one a
        weight.

    Example:
        >>> model = nn.Linear(3, 1)
        >>> sum(p.numel() for p in WeightPenalty(model, "weight").parameters())
        4
        >>> [p.shape for p in WeightPenalty(model, "layer").parameters()]
        [torch.Size([]), torch.Size([])]
    """

    def __init__(
        self, model: nn.Module, per: str = "layer", start: float = 0.01
    ) -> None:
        super().__init__()
        check_choice("per", per, _GROUPS)
        log = math.log(check_positive_float("start", start))
        weights = _list_weights(model)
        self._is_shared = per == "model"
        self.log_penalties = nn.ParameterList(
            torch.full_like(w.detach() if per == "weight" else w.detach().sum(), log)
            for w in (weights[:1] if self._is_shared else weights)
        )

    def forward(self, model: nn.Module) -> Tensor:
        """The penalty of a model like the one it was made for, of no dimension.

        Raises:
            ValueError: If the model has another number of weights that need a gradient.
        """
        weights = _list_weights(model)
        logs = list(self.log_penalties) * (len(weights) if self._is_shared else 1)
        if len(logs) != len(weights):
            raise ValueError(
                f"`model` must have {len(logs)} tensors of weights that need a "
                f"gradient, as when the penalty was made, got {len(weights)}."
            )
        terms = [
            (log.exp() * weight.square()).sum()
            for log, weight in zip(logs, weights, strict=True)
        ]
        return torch.stack(terms).sum() / 2


class TermWeights(nn.Module):
    """Weights of the terms of a training loss, to be tuned; their mean is 1.

    They make sense where the held-out loss is fixed: no term can be made small there.

    Args:
        starts: Weight of each term by its name, from where the search starts. Only
            their proportions count.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there are fewer than two terms, or a weight is not positive.

    Example:
        >>> weights = TermWeights({"cross_entropy": 1.0, "info_nce": 3.0})
        >>> terms = {"cross_entropy": torch.ones(()), "info_nce": torch.ones(())}
        >>> weights(terms)
        tensor(2., grad_fn=<SumBackward1>)
    """

    def __init__(self, starts: Mapping[str, float]) -> None:
        super().__init__()
        if not isinstance(starts, Mapping):
            raise TypeError(
                "`starts` must map names of terms to weights, got "
                f"{type(starts).__name__}."
            )
        if len(starts) < 2:
            raise ValueError(
                f"`starts` must have at least two terms, got {len(starts)}. The weight "
                "of a single one changes nothing."
            )
        values = [check_positive_float(f"starts[{k!r}]", v) for k, v in starts.items()]
        self._names = tuple(starts)
        self.logits = nn.Parameter(torch.tensor(values).log())

    def forward(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Sum of the weighted terms; each may have any shape that the others have.

        Raises:
            ValueError: If the names are not those it was made for, or the shapes are
                not one.
        """
        if set(terms) != set(self._names):
            raise ValueError(
                f"`terms` must be {', '.join(self._names)}, got {', '.join(terms)}."
            )
        shapes = {name: tuple(terms[name].shape) for name in self._names}
        if len(set(shapes.values())) > 1:
            raise ValueError(
                f"`terms` must have one shape, got {shapes}. Take the mean of each."
            )
        stacked = torch.stack([terms[name] for name in self._names], dim=-1)
        return (stacked * self.compute_weights()).sum(dim=-1)

    def compute_weights(self) -> Tensor:
        """The weights, shape `(K,)`, in the order of the names."""
        return self.logits.softmax(0) * len(self._names)


def _list_weights(model: nn.Module) -> list[nn.Parameter]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch module, got {type(model).__name__}.")
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        raise ValueError("`model` must have a weight that needs a gradient.")
    return weights
