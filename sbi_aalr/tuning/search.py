"""The search for hyperparameters by their gradient, while the weights are fitted.

A few steps of the weights down the training loss, one of the hyperparameters down the
held-out loss, and on from there: the weights are never started anew, so that the whole
costs a small multiple of one fit. All random numbers of a step follow from the seed and
the number of the step, so a search that was saved and resumed goes the same way.
"""

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Sequence
from os import PathLike

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from sbi_aalr.checks import check_positive_float, check_positive_int, check_seed
from sbi_aalr.errors import DivergenceError, IndefiniteHessianWarning
from sbi_aalr.networks.residual import full_precision
from sbi_aalr.seeding import derive_seed, seeded
from sbi_aalr.tuning.differentiation import differentiate
from sbi_aalr.tuning.info import Info, Settings
from sbi_aalr.tuning.saved_search import read_state, write_state
from sbi_aalr.tuning.stepping import (
    Step,
    Stepped,
    check_apart,
    check_decay,
    check_module,
    check_optimizers,
    check_optional,
    still,
)
from sbi_aalr.tuning.training_gradient import evaluate

# Of the best scale of the series, which is measured now and then only.
_SHARE_OF_SCALE = 0.8


class Search:
    """A search for hyperparameters by their gradient.

    Args:
        model: The module whose weights are fitted: all parameters that need a gradient.
            It is fitted in place, and left in `eval()`.
        hyperparameters: A module whose parameters are the hyperparameters, such as a
            `WeightPenalty`, an `nn.ModuleDict` of several, or an `nn.ParameterList`.
        training_loss: A function of nothing that returns the training loss, of a batch
            that it draws itself by torch's global generator. Model and hyperparameters
            are in `train()`.
        validation_loss: A function of nothing that returns the held-out loss. Model and
            hyperparameters are in `eval()`; it must give the same number twice.
        optimizer: What steps the weights, without decay: one of torch's, or several.
        hyperparameter_optimizer: What steps the hyperparameters, one of torch's;
            several for several parts.
        inner_steps: Steps of the weights before each step of the hyperparameters.
        inverse: See `hypergradient`; `"exact"` and the others work, too.
        num_terms: See `hypergradient`.
        damping: See `hypergradient`.
        spectrum_every: Steps of the hyperparameters between two measurements of the
            largest eigenvalue, of which the scale of the series is made. A series that
            grows has it measured at once.
        clip_max_norm: Largest norm of the gradient of the weights; None for no limit.
        clip_hypergradient: Largest norm of the hypergradient; None for no limit.
        seed: Seed of all random numbers.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number has no sense, or an optimizer does not step what it
            should, or decays the weights.

    Attributes:
        history: A `Step` for each step of the hyperparameters.

    Example:
        >>> from sbi_aalr.tuning import Search, WeightPenalty
        >>> _ = torch.manual_seed(1)
        >>> x, held_out = torch.randn(20, 30), torch.randn(50, 30)
        >>> model = nn.Linear(30, 1)
        >>> penalty = WeightPenalty(model, per="weight", start=0.1)
        >>> search = Search(
        ...     model,
        ...     penalty,
        ...     lambda: (model(x) - x[:, :1]).square().mean() + penalty(model),
        ...     lambda: (model(held_out) - held_out[:, :1]).square().mean(),
        ...     optimizer=torch.optim.Adam(model.parameters(), 0.03),
        ...     hyperparameter_optimizer=torch.optim.Adam(penalty.parameters(), 0.3),
        ...     inner_steps=10,
        ... )
        >>> history = search.run(20)
        >>> history[-1].validation_loss < history[5].validation_loss / 2
        True
    """

    def __init__(
        self,
        model: nn.Module,
        hyperparameters: nn.Module,
        training_loss: Callable[[], Tensor],
        validation_loss: Callable[[], Tensor],
        *,
        optimizer: Optimizer | Sequence[Optimizer],
        hyperparameter_optimizer: Optimizer | Sequence[Optimizer],
        inner_steps: int = 20,
        inverse: str = "neumann",
        num_terms: int = 10,
        damping: float = 0.0,
        spectrum_every: int = 10,
        clip_max_norm: float | None = 5.0,
        clip_hypergradient: float | None = None,
        seed: int = 0,
    ) -> None:
        self._model = check_module("model", model)
        self._hyperparameters = check_module("hyperparameters", hyperparameters)
        weights = [p for p in model.parameters() if p.requires_grad]
        knobs = [p for p in hyperparameters.parameters() if p.requires_grad]
        check_apart(weights, knobs)
        self._weights = Stepped(
            weights,
            check_optimizers("optimizer", optimizer, weights),
            check_optional("clip_max_norm", clip_max_norm),
        )
        check_decay("optimizer", self._weights.optimizers)
        self._knobs = Stepped(
            knobs,
            check_optimizers(
                "hyperparameter_optimizer", hyperparameter_optimizer, knobs
            ),
            check_optional("clip_hypergradient", clip_hypergradient),
        )
        self._losses = training_loss, validation_loss
        for name, loss in zip(("training", "validation"), self._losses, strict=True):
            if not callable(loss):
                kind = type(loss).__name__
                raise TypeError(f"`{name}_loss` must be a function, got {kind}.")
        self._inner_steps = check_positive_int("inner_steps", inner_steps)
        self._settings = Settings(inverse, num_terms, None, damping).check()
        self._spectrum_every = check_positive_int("spectrum_every", spectrum_every)
        self._seed = check_seed("seed", seed)
        self._eigenvalue = math.nan
        self.history: list[Step] = []

    def run(
        self,
        num_steps: int,
        *,
        time_limit: float | None = None,
        show_progress_bars: bool = False,
    ) -> list[Step]:
        """Take steps of the hyperparameters, from where the last call left off.

        Args:
            num_steps: How many, each after `inner_steps` of the weights.
            time_limit: Seconds after which no other is begun; None for no limit.
            show_progress_bars: Whether to show the held-out loss as it falls.

        Returns:
            The whole history.

        Raises:
            ValueError: If the held-out loss is not the same twice, or for what
                `hypergradient` raises one.
        """
        num_steps = check_positive_int("num_steps", num_steps)
        if time_limit is not None:
            time_limit = check_positive_float("time_limit", time_limit)
        first = len(self.history) + 1
        end = time.perf_counter() + (time_limit or math.inf)
        bar = tqdm(range(num_steps), "Tuning", disable=not show_progress_bars)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                self._check_held_out_loss()
                for _ in bar:
                    if time.perf_counter() >= end:
                        break
                    with seeded(derive_seed(self._seed, len(self.history))):
                        self.history.append(self._take_step())
                    if len(self.history) == first:
                        # At the start some weights are zero, which can hide noise.
                        self._check_held_out_loss()
                    loss = self.history[-1].validation_loss
                    bar.set_postfix(validation=f"{loss:.3g}")
        finally:
            bar.close()
            self._set_training(False)
        return self.history

    def save(self, path: str | PathLike[str]) -> None:
        """Write all that it takes to go on into one file, of tensors and JSON.

        Args:
            path: The file. One that is there is replaced once the new one is whole.

        Raises:
            OSError: If it cannot be written.
        """
        numbers = {"history": self.history, "eigenvalue": self._eigenvalue}
        write_state(path, self._list_parts(), numbers)

    def load(self, path: str | PathLike[str]) -> None:
        """Go on from what `save` wrote, with a search that was built alike.

        Args:
            path: The file.

        Raises:
            OSError: If it cannot be read.
            ValueError: If it is damaged, or of another search.
        """
        numbers = read_state(path, self._list_parts())
        self._eigenvalue = numbers["eigenvalue"]
        self.history = [Step(*step) for step in numbers["history"]]

    def _list_parts(self) -> dict[str, nn.Module | Optimizer]:
        optimizers = (*self._weights.optimizers, *self._knobs.optimizers)
        numbered = {f"optimizer_{i}": part for i, part in enumerate(optimizers)}
        knobs = self._hyperparameters
        return {"model": self._model, "hyperparameters": knobs, **numbered}

    def _set_training(self, is_training: bool) -> None:
        self._model.train(is_training)
        self._hyperparameters.train(is_training)

    def _compute_training_loss(self, *_: object) -> Tensor:
        self._set_training(True)
        return self._losses[0]()

    def _compute_validation_loss(self, *_: object) -> Tensor:
        self._set_training(False)
        return self._losses[1]()

    def _check_held_out_loss(self) -> None:
        """Raise if the held-out loss has noise of its own."""
        values = []
        for number in range(2):
            with seeded(derive_seed(self._seed, number)):
                loss = evaluate("validation_loss", self._compute_validation_loss)
                values.append(float(loss.detach()))
        if values[0] != values[1]:
            raise ValueError(
                "`validation_loss` must give the same number twice, got "
                f"{values[0]:.7g} and {values[1]:.7g}. Take all rows instead of a "
                "batch, and no dropout: it runs with the model in eval()."
            )

    def _take_step(self) -> Step:
        started = time.perf_counter()
        with still(self._knobs.parameters):
            compute, num_steps = self._compute_training_loss, self._inner_steps
            training_loss = self._weights.descend(compute, num_steps)
        seen: list[Tensor] = []

        def compute_validation_loss(*_: object) -> Tensor:
            seen.append(self._compute_validation_loss())
            return seen[-1]

        gradients, info = self._differentiate(compute_validation_loss)
        norm = self._knobs.step(gradients)
        return Step(
            training_loss,
            float(seen[0].detach()),
            float(norm),
            info.residual,
            info.terms_used,
            self._eigenvalue,
            info.least_curvature,
            time.perf_counter() - started,
        )

    def _differentiate(
        self, compute_validation_loss: Callable[..., Tensor]
    ) -> tuple[tuple[Tensor, ...], Info]:
        """Compute the hypergradient, with a scale that was measured not long ago."""

        def run(settings: Settings) -> tuple[tuple[Tensor, ...], Info]:
            # Far from the minimum it is indefinite as a rule; the history tells.
            with warnings.catch_warnings(), full_precision(self._model):
                warnings.simplefilter("ignore", IndefiniteHessianWarning)
                return differentiate(
                    compute_validation_loss,
                    self._compute_training_loss,
                    self._weights.parameters,
                    self._knobs.parameters,
                    settings,
                )

        settings = self._settings
        size = abs(self._eigenvalue) + settings.damping
        is_due = len(self.history) % self._spectrum_every == 0 or not size > 0
        if settings.inverse == "neumann" and not is_due:
            with contextlib.suppress(DivergenceError):
                return run(settings._replace(scale=_SHARE_OF_SCALE / size))
        found = run(settings)
        if not math.isnan(found[1].largest_eigenvalue):
            self._eigenvalue = found[1].largest_eigenvalue
        return found
