"""The two ways to fit that simulate: while training, and in rounds."""

import os
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.simulation import SimulationStore
from sbi_aalr.trainer.checkpoints import SECONDS_BETWEEN, Checkpoints
from sbi_aalr.trainer.online import fit_online
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.trainer.streaming import Streaming
from sbi_aalr.trainer.truncated import fit_truncated
from sbi_aalr.training.recipe import TrainingSettings


class SimulatingTrainer(SbiTrainer):
    """A trainer that simulates what it is trained on."""

    def train_online(
        self,
        simulator: Callable[..., Any],
        num_simulations: int = 1_000_000,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        clip_max_norm: float | None = 5.0,
        retrain_from_scratch: bool = False,
        seed: int | None = None,
        num_passes: int | None = None,
        time_limit: float | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = SECONDS_BETWEEN,
        resume: bool = True,
        executor: Executor | None = None,
        store: SimulationStore | str | os.PathLike[str] | None = None,
        on_error: str = "raise",
        timeout: float | None = None,
    ) -> RatioEstimator:
        """Fit the estimator while simulating: Algorithm 1.

        Each step of the first pass draws theta from the prior, simulates x from theta,
        and takes one gradient step. In further passes the same simulations meet other
        contrasts, in another order; a few are then held out, and the pass that did best
        on them is kept.

        Args:
            simulator: Any simulator that sbi accepts: over a batch `(N, D)` or one
                parameter set at a time, in torch or numpy.
            num_simulations: Budget, in simulations; 5 more find out whether the
                simulator takes batches.
            batch_size: Simulations in a step; by default the recipe's.
            learning_rate: Largest learning rate of AdamW, which falls to zero in a
                line; by default the recipe's.
            clip_max_norm: Largest norm of the gradient; None for no limit.
            retrain_from_scratch: Begin with new weights, and not with those fitted
                before. After rounds, whose prior was cut, that is so in any case.
            seed: Makes the run repeatable; the global generators are left untouched.
            num_passes: How often each simulation is used; with 1, none is kept.
            time_limit: Seconds after which to end, simulations included, the learning
                rate having come down; the budget may not be spent. A limit never makes
                training longer.
            checkpoint: Folder that keeps how far the call has come, as in `train`.
            checkpoint_every: Seconds from one checkpoint to the next.
            resume: Whether to go on from what is there, and not to begin anew.
            executor: Where to simulate beside the training: any executor of
                `concurrent.futures`, or of a Dask client. Then each batch has stored
                rows too, `summary["recipe"]` tells how many for a fresh one.
            store: Store, or its path, that simulations go to and are taken from.
            on_error: `"raise"` to end with the first simulation that fails, `"skip"` to
                set such aside; the posterior is corrected for them.
            timeout: Seconds that a batch of simulations may take in an executor.

        Returns:
            The fitted ratio estimator, its weights averaged over the last steps.
            `summary["training_loss"]` gains the loss of every step of the network,
            `summary["learning_rate"]` its learning rate, `summary["validation_loss"]`
            the held-out loss of every pass, and `summary["recipe"]` what was chosen.

        Raises:
            CallOrderError: If there is no prior.
            OSError: If the checkpoint cannot be written.
            RuntimeError: If the loss becomes NaN.
            TypeError: If `simulator` is no callable or a count no int.
            ValueError: If a count is not positive, the simulator raises, returns
                another number of rows, NaN or infinity, or the checkpoint is of another
                call.

        Warns:
            CheckpointWarning: If a later checkpoint cannot be written.
            InvalidSimulationsWarning: If some failed and were set aside.
            TimeLimitWarning: If `time_limit` ended a fit that had hardly begun.

        References:
            Hermans et al. (2020), arXiv:1903.04057, Algorithm 1.
        """
        return fit_online(
            self,
            simulator,
            num_simulations,
            TrainingSettings(batch_size, learning_rate, clip_max_norm, time_limit),
            Checkpoints(checkpoint, checkpoint_every, resume),
            Streaming(executor, store, on_error, timeout),
            num_passes=num_passes,
            retrain_from_scratch=retrain_from_scratch,
            seed=seed,
        )

    def train_truncated(
        self,
        simulator: Callable[..., Any],
        x_o: Tensor,
        num_simulations: int = 100_000,
        num_rounds: int = 3,
        epsilon: float = 1e-3,
        time_limit: float | None = None,
        seed: int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = SECONDS_BETWEEN,
        resume: bool = True,
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
            time_limit: Seconds of training in each round, and of drawing inside cuts.
            seed: Makes the run repeatable; the global generators are left untouched.
            checkpoint: Folder that keeps how far the call has come, as in `train`.
            checkpoint_every: Seconds from one checkpoint to the next.
            resume: Whether to go on from what is there, and not to begin anew.

        Returns:
            The ratio estimator of the last round. `summary["accepted_share"]` gains the
            share of the proposals that passed the cuts in each round; proposals for a
            uniform prior come from the box around the posterior.

        Raises:
            CallOrderError: If there is no prior.
            RuntimeError: If the cuts leave so little of the prior that drawing from it
                by rejection fails. The estimator of the round before stays.
            TypeError: If a count is no int.
            ValueError: If a count is not positive, `epsilon` not between 0 and 1, `x_o`
                not one observation, or the simulator returns no finite rows.

        Warns:
            ConvergenceWarning: If the chains that a cut is made from did not converge.
            FarObservationWarning: If the observation is far from all simulations of the
                first round.
            TimeLimitWarning: If `time_limit` ended a fit that had hardly begun.

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
        return fit_truncated(
            self,
            simulator,
            x_o,
            num_simulations,
            TrainingSettings(time_limit=time_limit),
            Checkpoints(checkpoint, checkpoint_every, resume),
            num_rounds=num_rounds,
            epsilon=epsilon,
            seed=seed,
        )
