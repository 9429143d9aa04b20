"""Noise in training, as hyperparameters: of columns, and inside a network.

In `eval()` there is none, so a tuned network needs nothing of it afterwards.
"""

import math

import torch
from torch import Tensor, nn

from sbi_aalr.checks import check_finite, check_fraction, check_positive_float
from sbi_aalr.networks.scale import Scale


class ColumnNoise(nn.Module):
    """Gaussian noise on each column of rows, with standard deviations to be tuned.

    Args:
        batch: Rows to take the spread of each column from, shape `(N, *event_shape)`.
        start: Standard deviation that each starts with, in spreads.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `start` is not positive.

    Example:
        >>> rows = torch.randn(100, 3)
        >>> noise = ColumnNoise(rows)
        >>> torch.equal(noise(rows), rows), torch.equal(noise.eval()(rows), rows)
        (False, True)
    """

    spread: Tensor

    def __init__(self, batch: Tensor, start: float = 0.03) -> None:
        super().__init__()
        check_rows(batch)
        log = math.log(check_positive_float("start", start))
        self.register_buffer("spread", Scale(batch).spread)
        self.log_scales = nn.Parameter(torch.full_like(self.spread, log))

    def forward(self, rows: Tensor) -> Tensor:
        """Add noise to rows, shape `(N, *event_shape)`, in training."""
        if not self.training:
            return rows
        scales = self.log_scales.exp() * self.spread
        return rows + scales * torch.randn_like(rows)


class DropoutRates(nn.Module):
    r"""Gaussian dropout with a rate to be tuned, in place of each `nn.Dropout`.

    Features are multiplied by $1 + \sqrt{p / (1 - p)} \epsilon$ with Gaussian noise
    $\epsilon$: mean and variance are those of dropout with rate p, and the loss can be
    differentiated in p. The network itself is not changed; while this module is
    `attached`, hooks do it.

    Args:
        model: The module; its `nn.Dropout` layers are found in the order of its
            modules. Their own rates do not count while this module is attached.
        start: Rate that each starts with, strictly between 0 and 1; None for the one
            that the layer has, or 0.1 where it has none.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `start` is no such rate, or there is no such layer.

    References:
        Srivastava et al. (2014), JMLR 15, section 10, for the Gaussian form.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.1))
        >>> rates = DropoutRates(model, start=0.2)
        >>> rates.attach(model)
        >>> rates.compute_rates()
        tensor([0.2000], grad_fn=<SigmoidBackward0>)
        >>> rates.detach()
    """

    def __init__(self, model: nn.Module, start: float | None = 0.1) -> None:
        super().__init__()
        layers = _list_dropouts(model)
        if start is None:
            rates = [layer.p if 0 < layer.p < 1 else 0.1 for layer in layers]
        else:
            rates = [check_fraction("start", start)] * len(layers)
        weight = next(model.parameters(), torch.zeros(()))
        self.logits = nn.Parameter(torch.tensor(rates, device=weight.device).logit())
        self._handles: list = []
        self._in_place: list[nn.Dropout] = []

    def attach(self, model: nn.Module) -> None:
        """Take the place of the dropout of a model, until `detach`.

        Args:
            model: The model that it was made for, or one like it.
        """
        self.detach()
        layers = _list_dropouts(model)
        if len(layers) != len(self.logits):
            raise ValueError(
                f"`model` must have {len(self.logits)} dropout layers like the one "
                f"that the rates were made for, got {len(layers)}."
            )
        # One that works in place leaves nothing of its input.
        self._in_place = [layer for layer in layers if layer.inplace]
        for layer in self._in_place:
            layer.inplace = False
        for index, layer in enumerate(layers):

            def add_noise(
                layer: nn.Module, inputs: tuple[Tensor], _: Tensor, index: int = index
            ) -> Tensor:
                rows = inputs[0]
                if not layer.training:
                    return rows
                # p / (1 - p) for a rate p that is the sigmoid of a logit.
                deviation = (self.logits[index] / 2).exp().to(rows)
                return rows * (1 + deviation * torch.randn_like(rows))

            self._handles.append(layer.register_forward_hook(add_noise))

    def detach(self) -> None:
        """Give the model its own dropout back."""
        while self._handles:
            self._handles.pop().remove()
        while self._in_place:
            self._in_place.pop().inplace = True

    def compute_rates(self) -> Tensor:
        """The rates, one for each layer, between 0 and 1."""
        return self.logits.sigmoid()


def _list_dropouts(model: nn.Module) -> list[nn.Dropout]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch module, got {type(model).__name__}.")
    layers = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    if not layers:
        raise ValueError("`model` must have a torch.nn.Dropout layer, got none.")
    return layers


def check_rows(batch: object) -> None:
    """Raise if it is no tensor with rows and columns."""
    if not isinstance(batch, Tensor):
        raise TypeError(f"`batch` must be a torch tensor, got {type(batch).__name__}.")
    if batch.ndim < 2 or len(batch) < 2:
        raise ValueError(
            "`batch` must have rows and columns, at least 2 rows, got shape "
            f"{tuple(batch.shape)}."
        )
    check_finite("batch", batch)
