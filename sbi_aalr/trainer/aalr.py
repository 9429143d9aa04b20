"""`AALR`: the trainer of amortized approximate likelihood ratio estimators."""

from collections.abc import Callable
from itertools import chain
from typing import Any

from sbi.neural_nets.estimators.base import ConditionalEstimatorBuilder
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.sbi_types import Tracker
from torch.distributions import Distribution
from torch.utils.tensorboard.writer import SummaryWriter

from sbi_aalr.checks import check_positive_int, check_prior
from sbi_aalr.errors import CallOrderError
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.adapt import prepare
from sbi_aalr.simulation.batches import Batch, divide, simulate, stream
from sbi_aalr.trainer.base import check_training
from sbi_aalr.trainer.truncated import RoundsTrainer
from sbi_aalr.training.classifiers import resolve_classifier
from sbi_aalr.training.passes import StreamedPasses
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.training.recipe import Recipe

# Enough rows for the quantiles that the inputs are scaled by, and to tell passes apart.
_OPENING_ROWS = 1024
# Share of a small budget that is held out where there are several passes.
_HELD_OUT_SHARE = 0.1


class AALR(RoundsTrainer):
    r"""Amortized approximate ratio estimation, Hermans et al. (2020).

    A classifier is trained to tell joint pairs (theta, x) from marginal pairs
    (theta', x); its logit is the log-ratio log r(x|theta) = log p(x|theta) - log p(x),
    for any x. Where sbi's `NRE_A` stands, `AALR` stands too: `append_simulations`,
    `train` and `build_posterior` mean the same, and `train_online` adds Algorithm 1,
    which simulates while it trains.

    Args:
        prior: Prior over the parameters. May be left out where only stored simulations
            are used; then pass it to `build_posterior`.
        classifier: The network. `"two_towers"` is separable, of a size that suits the
            budget; `"residual_mlp"` takes theta and x together; `"selu_mlp"` is the
            paper's; `"mlp"`, `"resnet"` and `"linear"` are sbi's. A callable
            `build(theta, x) -> RatioEstimator`, such as those that
            `sbi_aalr.networks` makes, or an sbi `ClassifierConfig` (of its residual
            network) is taken as it is.
        device: Where to train, such as `"cpu"` or `"cuda:0"`.
        logging_level: Least severity of sbi's log messages.
        summary_writer: sbi's deprecated alias of `tracker`.
        tracker: Where to log metrics. Without one nothing is written to disk.
        show_progress_bars: Whether to show progress while training.
        loss: What to train on; by default all pairs of a batch and InfoNCE where the
            network is separable, else Algorithm 1 as published.

    Raises:
        TypeError: If `prior` is no torch distribution, `classifier` no classifier or
            `loss` no `RatioLoss`.
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

    def __init__(
        self,
        prior: Distribution | None = None,
        classifier: str | ConditionalEstimatorBuilder[RatioEstimator] = "two_towers",
        device: str = "cpu",
        logging_level: int | str = "warning",
        summary_writer: SummaryWriter | None = None,
        tracker: Tracker | None = None,
        show_progress_bars: bool = True,
        loss: RatioLoss | None = None,
    ) -> None:
        """Set up the trainer; the class says what the arguments mean."""
        if prior is not None:
            check_prior("prior", prior)
        if loss is not None and not isinstance(loss, RatioLoss):
            raise TypeError(f"`loss` must be a RatioLoss, got {type(loss).__name__}.")
        self._ratio_loss = loss
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
        batch_size: int | None = None,
        learning_rate: float | None = None,
        clip_max_norm: float | None = 5.0,
        retrain_from_scratch: bool = False,
        seed: int | None = None,
        num_passes: int | None = None,
        time_limit: float | None = None,
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
            retrain_from_scratch: Begin with new weights where an estimator was fitted
                before; else go on with that one.
            seed: Makes the run repeatable; the global generators are left untouched.
            num_passes: How often each simulation is used; by default the recipe's, or
                as often as `time_limit` allows. With 1, no simulation is kept.
            time_limit: Seconds after which to end, simulations included. The learning
                rate has come down by then; the budget may not be spent.

        Returns:
            The fitted ratio estimator, its weights averaged over the last steps.
            `summary["training_loss"]` gains the loss of every step,
            `summary["learning_rate"]` its learning rate, `summary["validation_loss"]`
            the held-out loss of every pass if there may be several, and
            `summary["recipe"]` what was chosen.

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
        check_training(batch_size, learning_rate, clip_max_norm, time_limit)
        if num_passes is not None:
            check_positive_int("num_passes", num_passes)
        if self._prior is None:
            raise CallOrderError(
                "Algorithm 1 draws from the prior. Give it at the start: `AALR(prior)`."
            )
        begins = self._neural_net is None or retrain_from_scratch
        with seeded(seed), self._keep_estimator_if_failing():
            batched, prior = prepare(simulator, self._prior)
            opening_size = min(num_simulations, _OPENING_ROWS)
            theta = prior.sample((opening_size,))
            opening = Batch(
                theta,
                prior.sample((opening_size,)),
                simulate(batched, theta).to(theta.device),
            )
            if begins:
                rows = opening.theta.cpu(), opening.x.cpu()
                self._build(*rows, num_simulations, time_limit)
            else:
                self._check_fits(opening.theta, opening.x)
            recipe = self._choose_recipe(
                num_simulations, time_limit, True, batch_size, learning_rate
            )
            if num_passes is not None or time_limit is not None:
                recipe = recipe._replace(num_passes=num_passes)
            held_out = _count_held_out(num_simulations, recipe)
            batches = list(divide(opening.take(slice(held_out)), recipe.batch_size))
            opening = opening.take(slice(held_out, None))
            left = num_simulations - opening_size
            fresh = stream(batched, prior, left, recipe.batch_size)
            passes = StreamedPasses(
                chain(divide(opening, recipe.batch_size), fresh),
                num_simulations - held_out,
                recipe.batch_size,
                prior,
                is_single=recipe.num_passes == 1,
            )
            history = self._fit(
                passes,
                recipe,
                clip_max_norm=clip_max_norm,
                time_limit=time_limit,
                validate=(lambda: self._measure_loss(batches)) if batches else None,
            )
        self._record(
            {
                "training_loss": history.losses,
                "learning_rate": history.learning_rates,
                "validation_loss": history.validation_losses,
                "fit_seconds": [history.seconds],
            }
        )
        return self._neural_net


def _count_held_out(num_simulations: int, recipe: Recipe) -> int:
    """How many simulations of the opening to hold out: none where all are fresh."""
    rows = min(int(_HELD_OUT_SHARE * num_simulations), _OPENING_ROWS)
    return rows if recipe.num_passes != 1 and rows > 1 else 0
