"""`AALR`: the trainer of amortized approximate likelihood ratio estimators."""

from collections.abc import Callable
from copy import deepcopy
from itertools import chain, islice
from typing import Any

import torch
from sbi.neural_nets.estimators.base import ConditionalEstimatorBuilder
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.sbi_types import Tracker
from torch.distributions import Distribution
from torch.utils.tensorboard.writer import SummaryWriter

from sbi_aalr import online
from sbi_aalr.checks import (
    check_positive_float,
    check_positive_int,
    check_prior,
)
from sbi_aalr.classifiers import resolve_classifier
from sbi_aalr.errors import CallOrderError
from sbi_aalr.stored import StoredTrainer
from sbi_aalr.stream import seeded, stream

# Enough rows for the quantiles that the inputs are scaled by.
_SCALING_ROWS = 1024


class AALR(StoredTrainer):
    r"""Amortized approximate ratio estimation, Hermans et al. (2020).

    A classifier is trained to tell joint pairs (theta, x) from marginal pairs
    (theta', x); its logit is the log-ratio log r(x|theta) = log p(x|theta) - log p(x),
    for any x. Where sbi's `NRE_A` stands, `AALR` stands too: `append_simulations`,
    `train` and `build_posterior` mean the same, and `train_online` adds Algorithm 1,
    which simulates while it trains.

    Args:
        prior: Prior over the parameters. May be left out where only stored simulations
            are used; then pass it to `build_posterior`.
        classifier: The network. `"selu_mlp"` is the paper's; `"mlp"`, `"resnet"` and
            `"linear"` are sbi's; a callable `build(theta, x) -> RatioEstimator` or an
            sbi `ClassifierConfig` (of its residual network) is taken as it is.
        device: Where to train, such as `"cpu"` or `"cuda:0"`.
        logging_level: Least severity of sbi's log messages.
        summary_writer: sbi's deprecated alias of `tracker`.
        tracker: Where to log metrics. Without one nothing is written to disk.
        show_progress_bars: Whether to show progress while training.

    Raises:
        TypeError: If `prior` is no torch distribution or `classifier` no classifier.
        ValueError: If `classifier` is an unknown name.

    References:
        Hermans, Begy & Louppe (2020), *Likelihood-free MCMC with Amortized Approximate
        Ratio Estimators*, ICML, arXiv:1903.04057.

    Example:
        >>> from sbi_aalr.simulators import SLCP
        >>> slcp = SLCP()
        >>> trainer = AALR(slcp.prior, show_progress_bars=False)
        >>> estimator = trainer.train_online(slcp.simulate, num_simulations=2_000)
        >>> posterior = trainer.build_posterior()
    """

    _neural_net: RatioEstimator | None

    def __init__(
        self,
        prior: Distribution | None = None,
        classifier: str | ConditionalEstimatorBuilder[RatioEstimator] = "selu_mlp",
        device: str = "cpu",
        logging_level: int | str = "warning",
        summary_writer: SummaryWriter | None = None,
        tracker: Tracker | None = None,
        show_progress_bars: bool = True,
    ) -> None:
        """Set up the trainer; the class says what the arguments mean."""
        if prior is not None:
            check_prior("prior", prior)
        super().__init__(
            prior=prior,
            classifier=resolve_classifier(classifier),
            device=device,
            logging_level=logging_level,
            summary_writer=summary_writer,
            tracker=tracker,
            show_progress_bars=show_progress_bars,
        )

    def train_online(
        self,
        simulator: Callable[..., Any],
        num_simulations: int = 1_000_000,
        batch_size: int = 256,
        learning_rate: float = 5e-3,
        clip_max_norm: float | None = 5.0,
        retrain_from_scratch: bool = False,
        seed: int | None = None,
    ) -> RatioEstimator:
        """Fit the estimator while simulating: Algorithm 1.

        Each step draws theta and, independently, theta' from the prior, simulates x
        from theta, and takes one gradient step on the binary cross-entropy between the
        pairs (theta, x) and (theta', x). No simulation is used twice or kept.

        Args:
            simulator: Any simulator that sbi accepts: over a batch `(N, D)` or one
                parameter set at a time, in torch or numpy.
            num_simulations: Budget, in simulations; 5 more find out whether the
                simulator takes batches.
            batch_size: Simulations in a step.
            learning_rate: Largest learning rate of Adam; it falls to zero along a
                cosine.
            clip_max_norm: Largest norm of the gradient; None for no limit.
            retrain_from_scratch: Begin with new weights where an estimator was fitted
                before; else go on with that one.
            seed: Makes the run repeatable; the global generators are left untouched.

        Returns:
            The fitted ratio estimator. `summary["training_loss"]` gains the loss of
            every step, `summary["learning_rate"]` its learning rate.

        Raises:
            CallOrderError: If there is no prior.
            RuntimeError: If the loss becomes NaN.
            TypeError: If `simulator` is no callable or a count no int.
            ValueError: If a count is not positive, or the simulator raises, returns
                another number of rows, NaN or infinity.

        References:
            Hermans et al. (2020), arXiv:1903.04057, Algorithm 1.
        """
        if not callable(simulator):
            raise TypeError(
                f"`simulator` must be callable, got {type(simulator).__name__}."
            )
        check_positive_int("num_simulations", num_simulations)
        batch_size = min(check_positive_int("batch_size", batch_size), num_simulations)
        check_positive_float("learning_rate", learning_rate)
        if clip_max_norm is not None:
            check_positive_float("clip_max_norm", clip_max_norm)
        if self._prior is None:
            raise CallOrderError(
                "Algorithm 1 draws from the prior. Give it at the start: `AALR(prior)`."
            )
        with seeded(seed):
            batched, prior = online.prepare(simulator, self._prior)
            batches = stream(batched, prior, num_simulations, batch_size)
            opening = list(islice(batches, -(-_SCALING_ROWS // batch_size)))
            theta, _, x = (torch.cat(part).cpu() for part in zip(*opening, strict=True))
            before = self._neural_net
            if before is None or retrain_from_scratch:
                self._neural_net = self._build_neural_net(theta, x)
            else:
                self._check_fits(theta, x)
                self._neural_net = deepcopy(before)
            estimator: RatioEstimator = self._neural_net.to(self._device)
            try:
                history = online.fit(
                    estimator,
                    chain(opening, batches),
                    num_steps=-(-num_simulations // batch_size),
                    num_simulations=num_simulations,
                    learning_rate=learning_rate,
                    clip_max_norm=clip_max_norm,
                    show_progress_bars=self._show_progress_bars,
                )
            except Exception:
                # Not Ctrl-C, after which what was learnt so far is still of use.
                self._neural_net = before
                raise
        self._record(
            {
                "training_loss": history.losses,
                "learning_rate": history.learning_rates,
                "fit_seconds": [history.seconds],
            }
        )
        return estimator
