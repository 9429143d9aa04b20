"""The parts of a truncated round, each of which is done once, whatever happens."""

import contextlib
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.errors import FarObservationWarning
from sbi_aalr.posterior import MHPosterior
from sbi_aalr.sampling.truncated_prior import TruncatedPrior
from sbi_aalr.simulation.batches import simulate
from sbi_aalr.trainer.journal import Journal
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.training.recipe import TrainingSettings
from sbi_aalr.types import Simulator

_NUM_DRAWS = 5_000
# Simulations that are kept, where they are, as soon as they are made.
_ROWS_AT_ONCE = 1_000
# What a cut needs to know of the posterior is less than what is reported of one.
_SAMPLING: dict[str, Any] = {
    "num_candidates": 100_000,
    "max_rhat": 1.05,
    "show_progress_bars": False,
}


class Round:
    """A round.

    Args:
        journal: Where its parts are written down.
        trainer: Whose round.
        truncated: What the prior was cut to before; None in the first round.
        settings: What the user set.
        index: Number of the round.
    """

    def __init__(
        self,
        journal: Journal,
        trainer: SbiTrainer,
        truncated: TruncatedPrior | None,
        settings: TrainingSettings,
        index: int,
    ) -> None:
        self._journal, self._trainer = journal, trainer
        self._truncated, self._settings = truncated, settings
        self._index = index

    def draw_theta(self, rows: int, prior: Distribution) -> Tensor:
        """Draw parameters from what is left of the prior, shape `(rows, D)`."""
        cut = self._truncated

        def draw() -> dict[str, Tensor]:
            with self._watch():
                theta = (cut or prior).sample((rows,))
            counts = (cut.num_accepted, cut.num_proposed) if cut is not None else (0, 0)
            return {"theta": theta, "counts": torch.tensor(counts)}

        made = self._do_once("theta", draw)
        if cut is not None:
            cut.num_accepted, cut.num_proposed = made["counts"].tolist()
        return made["theta"].to(self._trainer._device)

    def simulate(self, simulator: Simulator, theta: Tensor) -> Tensor:
        """Simulate data of parameters `(N, D)`, shape `(N, *event_shape)`."""

        def work(rows: Tensor) -> dict[str, Tensor]:
            return {"x": simulate(simulator, rows)}

        parts = [
            self._do_once(f"x.{number}", lambda rows=rows: work(rows))["x"]
            for number, rows in enumerate(theta.split(_ROWS_AT_ONCE))
        ]
        return torch.cat([part.to(theta.device) for part in parts])

    def draw_posterior(self, prior: Distribution, x_o: Tensor) -> tuple[Tensor, Tensor]:
        """Draw from the posterior of the trainer's estimator.

        Args:
            prior: The prior, cut or not.
            x_o: The observation, shape `(1, *event_shape)`.

        Returns:
            Draws, shape `(S, D)`, and the observation as the estimator is shown it.
        """
        estimator, names = self._trainer._neural_net, self._trainer._parameter_names

        def draw() -> dict[str, Tensor]:
            posterior = MHPosterior.from_estimator(
                estimator, prior, parameter_names=names
            )
            with warnings.catch_warnings():
                # Where there are enough simulations the first round tells of it.
                warnings.simplefilter("ignore", FarObservationWarning)
                posterior.set_default_x(x_o)
            seed = int(torch.randint(2**31, ()))
            with self._watch():
                draws = posterior.sample((_NUM_DRAWS,), seed=seed, **_SAMPLING)
            return {"draws": draws, "x": posterior.default_x}

        made = self._do_once("draws", draw)
        device = self._trainer._device
        return made["draws"].to(device), made["x"].to(device)

    def _do_once(self, name: str, work: Any) -> dict[str, Tensor]:
        return self._journal.do_once(f"round_{self._index + 1}.{name}", work)

    def _watch(self) -> contextlib.AbstractContextManager[None]:
        """Show and limit what is drawn by rejection; the prior itself needs none."""
        if self._truncated is None:
            return contextlib.nullcontext()
        shows = self._trainer._show_progress_bars
        return self._truncated.watched(shows, self._settings.time_limit)
