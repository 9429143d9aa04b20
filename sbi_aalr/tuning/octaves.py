"""The gain of every octave of an encoding, as a hyperparameter: its bandwidth."""

import torch
from torch import Tensor, nn

from sbi_aalr.networks.encode import Encode


class OctaveGains(nn.Module):
    """Gains of the frequencies of each `Encode` of a network, to be tuned.

    A gain multiplies the sines and cosines of one octave, of all features together. A
    small one makes a network slow to use that octave, and a penalty on its weights
    dear. Gains act in `eval()`, too. The network itself is not changed: while this
    module is `attached`, hooks do it, and `fold` leaves them in the weights for good.

    Args:
        model: The module; its encodings are found in the order of its modules, those
            without frequencies left out. All gains start at 1.

    Raises:
        TypeError: If it is no module.
        ValueError: If it has no such encoding.

    Example:
        >>> from sbi_aalr.networks import two_towers
        >>> _ = torch.manual_seed(1)
        >>> theta, x = torch.randn(64, 2), torch.randn(64, 3)
        >>> estimator = two_towers(hidden_features=16)(theta, x).eval()
        >>> gains = OctaveGains(estimator)
        >>> [gain.shape for gain in gains.logs]
        [torch.Size([9]), torch.Size([9])]
        >>> gains.attach(estimator)
        >>> with torch.no_grad():
        ...     _ = gains.logs[0].fill_(-1.0)
        >>> before = estimator(theta, x)
        >>> gains.fold(estimator, theta, x)
        >>> torch.allclose(estimator(theta, x), before, atol=1e-5)
        True
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.logs = nn.ParameterList(
            torch.zeros_like(encode.frequencies) for encode in _list_encodings(model)
        )
        self._handles: list = []

    def attach(self, model: nn.Module) -> None:
        """Multiply the encodings of a model by the gains, until `detach` or `fold`.

        Args:
            model: The model that they were made for, or one like it.
        """
        self.detach()
        encodings = _list_encodings(model)
        _check_count(encodings, self.logs)
        for log, encode in zip(self.logs, encodings, strict=True):

            def amplify(
                _: nn.Module, inputs: tuple[Tensor], output: Tensor, log: Tensor = log
            ) -> Tensor:
                return output * _spread_gains(log, inputs[0].shape[1])

            self._handles.append(encode.register_forward_hook(amplify))

    def detach(self) -> None:
        """Give the model its own encodings back."""
        while self._handles:
            self._handles.pop().remove()

    def fold(self, model: nn.Module, *inputs: Tensor) -> None:
        """Multiply the weights that read the encodings by the gains, and detach.

        What the model computes stays the same.

        Args:
            model: The model that they are attached to.
            inputs: A few rows of each of its inputs, by which the layers are found that
                read an encoding.

        Raises:
            ValueError: If an encoding goes elsewhere than into linear layers. Then the
                gains stay attached.
        """
        before, readers = _find_readers(model, inputs)
        weights = {layer.weight for found in readers for layer, _ in found}
        kept = {weight: weight.detach().clone() for weight in weights}
        with torch.no_grad():
            for log, found in zip(self.logs, readers, strict=True):
                for layer, columns in found:
                    num_features = (columns.stop - columns.start) // (3 + 2 * len(log))
                    layer.weight[:, columns] *= _spread_gains(log, num_features)
        self.detach()
        if torch.allclose(_evaluate(model, inputs), before, rtol=1e-3, atol=1e-3):
            for log in self.logs:
                log.data.zero_()
            return
        for weight, value in kept.items():
            weight.data.copy_(value)
        self.attach(model)
        raise ValueError(
            "`model` must read its encodings by linear layers only, for gains to be "
            "folded into them, but something else reads one."
        )


def _spread_gains(log: Tensor, num_features: int) -> Tensor:
    """Gains of all columns of an encoding: 1, but for the waves of each feature."""
    gains = log.exp().repeat(2 * num_features)
    return torch.cat((gains.new_ones(3 * num_features), gains))


def _list_encodings(model: nn.Module) -> list[Encode]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch module, got {type(model).__name__}.")
    found = [m for m in model.modules() if isinstance(m, Encode)]
    found = [encode for encode in found if len(encode.frequencies)]
    if not found:
        raise ValueError(
            "`model` must encode an input with frequencies, as `two_towers` does with "
            "rows of at most 256 features."
        )
    return found


def _check_count(encodings: list[Encode], logs: nn.ParameterList) -> None:
    if len(encodings) != len(logs):
        raise ValueError(
            f"`model` must have {len(logs)} encodings like the one that the gains were "
            f"made for, got {len(encodings)}."
        )


Readers = list[list[tuple[nn.Linear, slice]]]


def _find_readers(
    model: nn.Module, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, Readers]:
    """Find the linear layers that read each encoding, and in which columns.

    An encoding is found in what goes into a layer by its numbers.
    """
    encodings = _list_encodings(model)
    encoded: dict[nn.Module, Tensor] = {}
    read: list[tuple[nn.Linear, Tensor]] = []
    handles = [
        encode.register_forward_hook(
            lambda module, _, output: encoded.__setitem__(module, output)
        )
        for encode in encodings
    ]
    handles += [
        layer.register_forward_pre_hook(
            lambda module, given: read.append((module, given[0]))
        )
        for layer in model.modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        value = _evaluate(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    readers: Readers = []
    for encode in encodings:
        found = [(layer, _find_columns(rows, encoded[encode])) for layer, rows in read]
        readers.append([(layer, where) for layer, where in found if where is not None])
    return value, readers


def _find_columns(rows: Tensor, block: Tensor) -> slice | None:
    """In which columns of rows a block of columns stands, if it does."""
    width = block.shape[1]
    if rows.ndim != 2 or len(rows) != len(block):
        return None
    for first in range(rows.shape[1] - width + 1):
        if torch.equal(rows[:, first : first + width], block):
            return slice(first, first + width)
    return None


def _evaluate(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return model(*inputs)
    finally:
        model.train(was_training)
