"""Truncated rounds: spend simulations where one observation's posterior is.

Each round trains on draws of the prior cut down to where the last round's ratio is not
negligible. As only the support changes, and not the shape, the ratio inside is
proportional to the likelihood, and the posterior is that of the original prior.
Simulations of earlier rounds that lie inside are draws of the cut prior as well, and
are used again.

References:
    Miller et al. (2021), *Truncated Marginal Neural Ratio Estimation*,
    arXiv:2107.01214.
"""

from collections.abc import Callable
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_fraction, check_positive_int
from sbi_aalr.errors import CallOrderError
from sbi_aalr.posterior.mh_posterior import MHPosterior
from sbi_aalr.sampling.truncated_prior import TruncatedPrior, cut_prior
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.adapt import prepare
from sbi_aalr.simulation.batches import simulate
from sbi_aalr.trainer.base import check_training
from sbi_aalr.trainer.stored import StoredTrainer

_NUM_DRAWS = 5_000
# What a cut needs to know of the posterior is less than what is reported of one.
_SAMPLING: dict[str, Any] = {
    "num_candidates": 100_000,
    "max_rhat": 1.05,
    "show_progress_bars": False,
}


class RoundsTrainer(StoredTrainer):
    """The part of `AALR` that trains for a single observation."""

    def train_truncated(
        self,
        simulator: Callable[..., Any],
        x_o: Tensor,
        num_simulations: int = 100_000,
        num_rounds: int = 3,
        epsilon: float = 1e-3,
        time_limit: float | None = None,
        seed: int | None = None,
    ) -> RatioEstimator:
        """Fit the estimator in rounds, for one observation.

        The first round draws theta from the prior, each further one from the prior
        without what the last round found negligible. `build_posterior` then uses the
        truncated prior; the estimator is of no use for other observations.

        Args:
            simulator: Any simulator that sbi accepts, as in `train_online`.
            x_o: The observation, shape `event_shape` or `(1, *event_shape)`.
            num_simulations: Budget of all rounds together, in simulations.
            num_rounds: Number of rounds, of as many simulations each.
            epsilon: Share of the posterior that each round may cut off.
            time_limit: Seconds of training in each round.
            seed: Makes the run repeatable; the global generators are left untouched.

        Returns:
            The ratio estimator of the last round. `summary["accepted_share"]` gains the
            share of the proposals that passed the cuts in each round; proposals for a
            uniform prior come from the box around the posterior.

        Raises:
            CallOrderError: If there is no prior.
            RuntimeError: If the cuts leave so little of the prior that drawing from it
                by rejection fails.
            TypeError: If a count is no int.
            ValueError: If a count is not positive, `epsilon` not between 0 and 1, or
                the simulator returns something else than finite rows.

        Warns:
            ConvergenceWarning: If the chains that a cut is made from did not converge.

        Example:
            >>> from sbi_aalr import AALR
            >>> from sbi_aalr.simulators import GaussianLinear
            >>> task = GaussianLinear()
            >>> x_o = task.simulate(task.prior.sample((1,)))
            >>> trainer = AALR(task.prior, show_progress_bars=False)
            >>> estimator = trainer.train_truncated(
            ...     task.simulate, x_o, num_simulations=2_000, num_rounds=2,
            ...     time_limit=2, seed=1,
            ... )
            >>> posterior = trainer.build_posterior()
        """
        check_positive_int("num_simulations", num_simulations)
        check_positive_int("num_rounds", num_rounds)
        check_fraction("epsilon", epsilon)
        check_training(None, None, None, time_limit)
        if self._prior is None:
            raise CallOrderError(
                "Rounds draw from the prior. Give it at the start: `AALR(prior)`."
            )
        with seeded(seed):
            batched, prior = prepare(simulator, self._prior)
            truncated: TruncatedPrior | None = None
            theta = prior.sample((1,))[:0]
            x = torch.zeros(0)
            left = num_simulations
            for index in range(num_rounds):
                rows = -(-left // (num_rounds - index))
                left -= rows
                fresh = (truncated or prior).sample((rows,))
                made = simulate(batched, fresh).to(fresh.device)
                if truncated is not None:
                    kept = truncated.keeps(theta)
                    theta, x = theta[kept], x[kept]
                theta = torch.cat((theta, fresh))
                x = torch.cat((x.reshape(-1, *made.shape[1:]), made))
                trainer = self._make_trainer(truncated or prior)
                trainer.append_simulations(theta, x).train(time_limit=time_limit)
                self._neural_net = trainer._neural_net
                self._take_over(trainer, truncated)
                if index < num_rounds - 1:
                    truncated = self._cut(truncated or prior, x_o, epsilon)
        self._truncated_prior = truncated
        return self._neural_net

    def _make_trainer(self, prior: Distribution) -> "RoundsTrainer":
        """A trainer like this one, for a round of its own."""
        return type(self)(
            prior,
            self._build_neural_net,
            self._device,
            show_progress_bars=self._show_progress_bars,
            loss=self._ratio_loss,
        )

    def _take_over(
        self, trainer: "RoundsTrainer", truncated: TruncatedPrior | None
    ) -> None:
        """Add what a round wrote down to the summary."""
        share = 1.0
        if truncated is not None:
            share = truncated.num_accepted / truncated.num_proposed
        self._summary.setdefault("recipe", []).extend(trainer.summary["recipe"])
        names = ("training_loss", "validation_loss", "fit_seconds")
        self._record(
            {
                **{name: trainer.summary[name] for name in names},
                "accepted_share": [share],
            }
        )

    def _cut(self, prior: Distribution, x_o: Tensor, epsilon: float) -> TruncatedPrior:
        """Cut the prior to where the posterior of the estimator lies."""
        posterior = MHPosterior.from_estimator(self._neural_net, prior)
        posterior.set_default_x(x_o)
        seed = int(torch.randint(2**31, ()))
        draws = posterior.sample((_NUM_DRAWS,), seed=seed, **_SAMPLING)
        return cut_prior(prior, self._neural_net, posterior.default_x, draws, epsilon)
