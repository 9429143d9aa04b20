"""A prior cut down to where the ratio of one observation is not negligible."""

import contextlib
import math
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.utils import BoxUniform
from sbi.utils.user_input_checks_utils import move_distribution_to_device
from torch import Size, Tensor
from torch.distributions import Distribution
from tqdm.auto import tqdm

from sbi_aalr.checks import check_type
from sbi_aalr.errors import OtherObservationWarning
from sbi_aalr.sampling.cut import Cut, find_cut
from sbi_aalr.seeding import seeded

_FEWEST_ROWS, _BLOCK_ROWS = 2**10, 2**17
_MOST_DRAWS = 10**9
# Draws inside the cuts that tell which share of the prior they leave.
_ENOUGH = 1_000
# Drawing is shown if it takes longer.
_SECONDS_UNTIL_SHOWN = 1.0


class TruncatedPrior(Distribution):
    """A prior without the parameters that some cuts leave out.

    Inside it is proportional to the prior, so a ratio that was learnt from its draws
    gives the posterior under the prior itself, but for what the cuts leave out.

    Args:
        prior: The prior.
        cuts: The cuts, all of which a draw must pass.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, prior: Distribution, cuts: tuple[Cut, ...]) -> None:
        check_type("prior", prior, Distribution, "a torch Distribution")
        for cut in check_type("cuts", cuts, tuple, "a tuple of cuts"):
            check_type("cuts", cut, Cut, "a tuple of cuts")
        super().__init__(prior.batch_shape, prior.event_shape, validate_args=False)
        self.prior = prior
        self.cuts = cuts
        self.num_proposed = 0
        self.num_accepted = 0
        self._log_share: float | None = None
        self._shows_progress = False
        self._time_limit: float | None = None

    @property
    def support(self) -> Any:
        """Support of the prior itself: the cuts have no simple form."""
        return self.prior.support

    @property
    def mean(self) -> Tensor:
        """Mean of the prior itself."""
        return self.prior.mean

    @property
    def stddev(self) -> Tensor:
        """Standard deviation of the prior itself."""
        return self.prior.stddev

    def to(self, device: str | torch.device) -> None:
        """Move the prior and its cuts to a device, in place as sbi's priors do."""
        self.prior = move_distribution_to_device(self.prior, device)
        self.cuts = tuple(
            cut._replace(
                estimator=cut.estimator.to(device),
                x=cut.x.to(device),
                low=cut.low.to(device),
                high=cut.high.to(device),
            )
            for cut in self.cuts
        )

    def keeps(self, theta: Tensor) -> Tensor:
        """Which rows of theta, `(N, D)`, pass all cuts, `(N,)`."""
        kept = torch.ones(len(theta), dtype=torch.bool, device=theta.device)
        for cut in self.cuts:
            rows = kept.nonzero().squeeze(1)
            kept[rows] = cut.keeps(theta[rows])
        return kept

    @contextlib.contextmanager
    def watched(
        self, show_progress_bars: bool, time_limit: float | None
    ) -> Iterator[None]:
        """Show and limit what is drawn inside, by whomever.

        Args:
            show_progress_bars: Whether to show draws that take long.
            time_limit: Seconds after which a call of `sample` fails; None for no limit.
        """
        self._shows_progress, self._time_limit = show_progress_bars, time_limit
        try:
            yield
        finally:
            self._shows_progress, self._time_limit = False, None

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw by rejection.

        Args:
            sample_shape: Shape of the draws.

        Returns:
            Draws, shape `(*sample_shape, D)`.

        Raises:
            RuntimeError: If almost nothing is accepted, or not enough in time.
        """
        started = time.perf_counter()
        shape = Size(sample_shape)
        wanted = shape.numel()
        pieces: list[Tensor] = []
        found = proposed = 0
        with tqdm(
            total=wanted,
            desc="Drawing inside the cuts",
            unit=" draws",
            disable=not self._shows_progress,
            delay=_SECONDS_UNTIL_SHOWN,
        ) as bar:
            while found < wanted:
                seconds = time.perf_counter() - started
                is_late = self._time_limit is not None and seconds > self._time_limit
                if is_late or proposed > _MOST_DRAWS:
                    raise RuntimeError(
                        f"Only {found:,} of {proposed:,} draws of the prior passed its "
                        f"cuts, a share of {found / max(1, proposed):.2g}, and "
                        f"{wanted:,} were asked for. That took {seconds:.3g} s. "
                        "Truncate in fewer rounds, or give a larger `time_limit` where "
                        "there is one."
                    )
                rows = proposed + max(wanted, _FEWEST_ROWS)
                theta = self._propose(min(rows, _BLOCK_ROWS))
                kept = theta[self.keeps(theta)]
                self.num_proposed += len(theta)
                self.num_accepted += len(kept)
                proposed += len(theta)
                found += len(kept)
                pieces.append(kept)
                bar.update(min(len(kept), wanted - bar.n))
        return torch.cat(pieces)[:wanted].reshape(*shape, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of the prior inside the cuts, as measured from its own draws.

        Args:
            value: Parameters, shape `(..., D)`.

        Returns:
            Log-densities, shape `(...)`; minus infinity outside the cuts.
        """
        if self._log_share is None:
            self._log_share = self._measure_log_share()
        rows = value.reshape(-1, value.shape[-1])
        log_density = self.prior.log_prob(rows) - self._log_share
        result = torch.where(self.keeps(rows), log_density, -torch.inf)
        return result.reshape(value.shape[:-1])

    def find_log_share(self, num_accepted: int, num_proposed: int) -> float:
        """Log of the share of the prior that the cuts keep, nats.

        Args:
            num_accepted: Of the draws that were proposed, those that passed the cuts.
            num_proposed: Draws that were proposed.
        """
        log_share = math.log(max(1, num_accepted) / num_proposed)
        if isinstance(self.prior, BoxUniform):
            # Proposals had the density of the box, which the prior has not.
            low, high = self._find_box()
            log_share += float(self.prior.log_prob((low + high) / 2))
            log_share += float((high - low).log().sum())
        return log_share

    @torch.no_grad()
    def _measure_log_share(self) -> float:
        """The same, by draws that nobody else's depend on."""
        accepted = proposed = 0
        with seeded(0):
            while accepted < _ENOUGH and proposed < _MOST_DRAWS:
                rows = self._propose(_BLOCK_ROWS)
                accepted += int(self.keeps(rows).sum())
                proposed += len(rows)
        return self.find_log_share(accepted, proposed)

    def _propose(self, num_rows: int) -> Tensor:
        """Draws of the prior; of a uniform one only inside the boxes of the cuts."""
        if not isinstance(self.prior, BoxUniform):
            return self.prior.sample((num_rows,))
        low, high = self._find_box()
        unit = torch.rand(num_rows, len(low), device=low.device)
        return low + (high - low) * unit

    def _find_box(self) -> tuple[Tensor, Tensor]:
        """The corners of what the boxes of all cuts leave of a uniform prior."""
        box: Any = self.support.base_constraint
        low = torch.stack([box.lower_bound, *(cut.low for cut in self.cuts)]).amax(0)
        high = torch.stack([box.upper_bound, *(cut.high for cut in self.cuts)]).amin(0)
        return low, high


def cut_prior(
    prior: Distribution,
    estimator: RatioEstimator,
    x: Tensor,
    draws: Tensor,
    epsilon: float,
) -> TruncatedPrior:
    """Cut a prior further, to where posterior draws of one observation lie.

    Args:
        prior: The prior, truncated before or not.
        estimator: Fitted to draws of it.
        x: The observation, shape `(1, *event_shape)`.
        draws: Posterior draws given x, shape `(S, D)`.
        epsilon: Share of the posterior draws that may be left out, those of the least
            log-ratios.

    Returns:
        The truncated prior.
    """
    cut = find_cut(estimator, x, draws, epsilon)
    if isinstance(prior, TruncatedPrior):
        return TruncatedPrior(prior.prior, (*prior.cuts, cut))
    return TruncatedPrior(prior, (cut,))


def take_off_cuts(prior: Any) -> Any:
    """The prior itself, where it has been cut; None stays None."""
    return prior.prior if isinstance(prior, TruncatedPrior) else prior


def warn_if_other(prior: object, x: Tensor, stacklevel: int = 2) -> None:
    """Warn if a prior was cut for another observation than those that are asked about.

    It is no error, as the ratio holds for all that the cut prior can have simulated,
    which checks of calibration draw on; but the posterior of an observation from
    elsewhere lies where the prior was cut away.

    Args:
        prior: Any prior; only a `TruncatedPrior` is cut.
        x: Observations, shape `(n, *event_shape)`.
        stacklevel: Frames from the warning to the line it points at.

    Warns:
        OtherObservationWarning: If any row differs. Its `value` is how many do.
    """
    if not isinstance(prior, TruncatedPrior):
        return
    known = torch.cat([cut.x.cpu() for cut in prior.cuts]).flatten(1)
    others = int((x.cpu().flatten(1).unsqueeze(1) != known).any(2).any(1).sum())
    if others:
        warnings.warn(
            OtherObservationWarning(
                f"`x` has {others} of {len(x)} rows that differ from the observation "
                "which the posterior was truncated for. Their posteriors may lie where "
                "its prior was cut away. For other observations train with "
                "`train_online` or `train`.",
                others,
            ),
            stacklevel=stacklevel + 1,
        )
