"""Call a simulator so that it cannot spoil what its data are used for.

It gets a copy of theta, so that what it writes there reaches nobody. What it returns is
copied, so that it may use the same memory again, and checked. Modes of torch and NumPy
that it sets end with it, and where it seeds torch's generator, the parameters that are
drawn next do not repeat.
"""

import contextlib
import copy
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbi_aalr.checks import keep_digits

# Of simulations that fail by chance, nine in ten of them, one in 40,000 is left then.
_MOST_TRIES = 100


class GuardedSimulator:
    """A simulator whose data can be trusted to be finite rows of numbers.

    Args:
        simulate: Over a batch `(N, D)`, or over one row `(D,)`.
        by_row: Whether it takes one parameter set at a time.
        device: Where it wants theta; None for where theta is.
        no_batch: What it raised when it was given a batch, for the message if it fails
            on a row as well.
        keeps_all: Whether float64 stays float64, for who rounds several calls' rows
            together.
    """

    def __init__(
        self,
        simulate: Callable[..., Any],
        *,
        by_row: bool = False,
        device: str | None = None,
        no_batch: str = "",
        keeps_all: bool = False,
    ) -> None:
        self._simulate = simulate
        self._by_row = by_row
        self._device = device
        self._no_batch = no_batch
        self._keep = Tensor.to if keeps_all else keep_digits
        self._most_tries = 1
        # Where the last call found the generators, and where it left them.
        self._found: list[Tensor] = []
        self._left: list[Tensor] = []

    def __call__(self, theta: Tensor) -> Tensor:
        """Simulate data and check them.

        Args:
            theta: Parameters, shape `(N, D)`.

        Returns:
            Data, shape `(N, *event_shape)`, on the device of theta, which nothing else
            refers to and no gradient flows through. They are float32; float64 only
            where float32 would blur them, see `keep_digits`.

        Raises:
            ValueError: If the simulator raises, returns another number of rows, or
                returns NaN or infinity.
            TypeError: If it does not return real numbers.
        """
        x = self.run(theta)
        if x.ndim < 2 or x.shape[0] != theta.shape[0] or x.numel() == 0:
            raise ValueError(
                "`simulator` must return one row for each parameter set: "
                f"({theta.shape[0]}, *event_shape), got {tuple(x.shape)}. Give a "
                "single number the shape (1,)."
            )
        valid = _find_valid(x)
        for _ in range(self._most_tries - 1):
            if valid.all():
                break
            again = self.run(theta[~valid])
            x = x.to(torch.promote_types(x.dtype, again.dtype))
            x[~valid] = again.to(x)
            valid = _find_valid(x)
        if not valid.all():
            self._refuse(theta, valid)
        return x

    def excluding_invalid(self) -> "GuardedSimulator":
        """The same, which simulates again where there was NaN or infinity.

        Data are then those of simulations that succeed, at the same parameters.
        """
        chosen = copy.copy(self)
        chosen._most_tries = _MOST_TRIES
        return chosen

    def _refuse(self, theta: Tensor, valid: Tensor) -> None:
        failed = theta[~valid]
        often = f", {self._most_tries} times over" if self._most_tries > 1 else ""
        remedy = (
            "or simulate first and pass `exclude_invalid_x=True` to "
            "`append_simulations`; `train_online` takes `on_error='skip'`, a report "
            "and other checks take `exclude_invalid_x=True`"
        )
        if often:
            remedy = "or train with `on_error='skip'`, whose posterior leaves them out"
        raise ValueError(
            "`simulator` must return numbers that are finite as float32, got NaN "
            f"or infinity in {len(failed)} of {len(theta)} rows{often} (first: theta = "
            f"{failed[0].tolist()}). Let it return a finite value there, leave "
            f"such parameters out of the prior, {remedy}."
        )

    def run(self, theta: Tensor) -> Tensor:
        """Simulate without a look at the data, whatever their shape."""
        with modes_kept(), self._seeds_kept(theta.device):
            return self.run_unguarded(theta)

    def run_unguarded(self, theta: Tensor) -> Tensor:
        """The same for who keeps modes and generators; it may end long after that."""
        given = theta.detach().clone().to(self._device or theta.device)
        if not self._by_row:
            return self._keep(self._call(given, theta), theta.device)
        rows = [self._call(*pair) for pair in zip(given, theta, strict=True)]
        for row, known in zip(rows, theta, strict=True):
            if row.shape != rows[0].shape:
                raise ValueError(
                    "`simulator` must return rows of one shape, got "
                    f"{tuple(rows[0].shape)} at theta = {theta[0].tolist()} and "
                    f"{tuple(row.shape)} at theta = {known.tolist()}."
                )
        return self._keep(torch.stack(rows), theta.device)

    @contextlib.contextmanager
    def _seeds_kept(self, device: torch.device) -> Iterator[None]:
        """Bring torch's generators back where the simulator seeds them.

        Else each batch would begin with the same parameters. A simulator that only
        draws is left alone.
        """
        generators = [torch.default_generator]
        if device.type == "cuda":
            generators.append(torch.cuda.default_generators[device.index or 0])
        seeds = [generator.initial_seed() for generator in generators]
        before = [generator.get_state() for generator in generators]
        yield
        after = [generator.get_state() for generator in generators]
        # By the seed, or, if it took the user's, by two calls that end alike. Those
        # that began alike, as a run that is repeated does, end alike anyway.
        has_moved = not _are_equal(after, before)
        is_seeded = seeds != [generator.initial_seed() for generator in generators]
        ends_alike = _are_equal(after, self._left)
        begins_alike = _are_equal(before, self._found)
        if is_seeded or (has_moved and ends_alike and not begins_alike):
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)
        self._found, self._left = before, after

    def _call(self, given: Tensor, theta: Tensor) -> Tensor:
        """Give the simulator its copy; `theta` is named if it fails."""
        try:
            x = self._simulate(given)
        except (Exception, SystemExit) as error:
            # One that calls `sys.exit` would end all that was simulated, and silently.
            where = f"theta = {theta.tolist()}"
            if theta.ndim > 1:
                where = f"{len(theta)} parameter sets, the first is {theta[0].tolist()}"
            message = (
                f"`simulator` raised {type(error).__name__}: {error} (for {where})."
            )
            if self._no_batch:
                message += f" It takes no batch either, which raised {self._no_batch}."
            raise ValueError(message) from error
        return copy_numbers(x)


def _find_valid(x: Tensor) -> Tensor:
    return torch.isfinite(x).flatten(1).all(dim=1)


@contextlib.contextmanager
def modes_kept() -> Iterator[None]:
    """End what a simulator sets: modes of torch and NumPy, and the working folder.

    Without the folder, relative paths that a run is to write to would lead elsewhere.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    is_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    num_threads, folder = torch.get_num_threads(), _find_folder()
    with torch.set_grad_enabled(torch.is_grad_enabled()), np.errstate():
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            if torch.get_default_device() != device:
                # None is torch's own word for the CPU, and costs nothing.
                torch.set_default_device(None if device.type == "cpu" else device)
            if torch.are_deterministic_algorithms_enabled() != is_deterministic:
                torch.use_deterministic_algorithms(
                    is_deterministic, warn_only=is_warning
                )
            # Whatever is seen here: another thread may have set that of new ones.
            torch.set_num_threads(num_threads)
            if folder and _find_folder() != folder:
                os.chdir(folder)


def _find_folder() -> str | None:
    """The working folder; None if it is gone."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _are_equal(states: list[Tensor], others: list[Tensor]) -> bool:
    return len(states) == len(others) and all(map(torch.equal, states, others))


def copy_numbers(x: Any) -> Tensor:
    """Copy what a simulator returned to a tensor without gradients.

    Args:
        x: A tensor, or anything that NumPy makes an array of numbers of. What is masked
            becomes NaN.

    Returns:
        The numbers, float64 where they have more than 32 bits, else float32.

    Raises:
        TypeError: If it is not made of real numbers.
        ValueError: If its rows differ in length.
    """
    try:
        if isinstance(x, list | tuple) and x and all(isinstance(v, Tensor) for v in x):
            # NumPy makes no array of tensors that have gradients.
            x = torch.stack(list(x))
        x = x if isinstance(x, Tensor) else np.asanyarray(x)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"`simulator` must return rows of one shape, got {type(x).__name__} of "
            f"which is said: {error}."
        ) from error
    if isinstance(x, Tensor):
        kind = "complex" if x.is_complex() else "real"
    else:
        kind = {"c": "complex", **dict.fromkeys("biuf", "real")}.get(x.dtype.kind, "")
    if kind != "real":
        remedy = "Return an array or a tensor of floats"
        if kind:
            remedy = (
                "Return real and imaginary parts, or modulus and phase, side by side"
            )
        raise TypeError(
            f"`simulator` must return real numbers, got {_describe(x)}. {remedy}."
        )
    if isinstance(x, Tensor):
        return _copy_tensor(x)
    wanted = np.float64 if x.dtype.itemsize > 4 else np.float32
    with np.errstate(over="ignore"):
        values = np.ma.filled(x.astype(wanted, order="C"), np.nan)
    return torch.from_numpy(np.asarray(values))


def _copy_tensor(x: Tensor) -> Tensor:
    wanted = torch.float64 if x.dtype.itemsize > 4 else torch.float32
    try:
        return x.detach().to_dense().to(wanted, copy=True)
    except (RuntimeError, NotImplementedError) as error:
        # Such as one without data, or of parts that differ in length.
        raise TypeError(
            "`simulator` must return a tensor of numbers, got one on device "
            f"{x.device} with layout {x.layout}, of which torch says: "
            f"{str(error).splitlines()[0][:120]}"
        ) from error


def _describe(x: Any) -> str:
    """Name what is in an array, or an array of one thing."""
    if not isinstance(x, Tensor) and x.dtype.kind == "O" and x.ndim == 0:
        return type(x.item()).__name__
    return f"{type(x).__name__} of {x.dtype}"
