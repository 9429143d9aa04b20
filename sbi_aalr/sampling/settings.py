"""How to sample: kernel, lengths and limits."""

# No `from __future__ import annotations` here: sbi reads the fields' types at run time,
# and would then find strings and check nothing.

from dataclasses import dataclass, fields
from typing import Any, Literal

from sbi_aalr.checks import (
    check_choice,
    check_field,
    check_non_negative_int,
    check_positive_float,
    check_positive_int,
)
from sbi_aalr.mcmc import KERNELS, Kernel

INIT_STRATEGIES = ("resample", "proposal")


@dataclass(frozen=True)
class Settings:
    """How to sample.

    Fields:
        kernel: What proposes: a name in `sbi_aalr.mcmc.KERNELS`, a `Kernel`, or
            `"auto"` for `"jump_walk"`, and for `"hmc"` where a ratio estimator has more
            than twenty parameters.
        num_chains: Chains for each observation; None for 32, and down to 8 where there
            are many observations, 4 beside a density. Warm-up runs 100 at least, which
            is what the kernel needs to learn from, and 8 where a density proposes.
        warmup_steps: Steps in which the kernel learns, which are not kept as draws.
            Up to half as many go before, in which starts are annealed to the posterior.
        thin: Steps from one kept draw to the next; None for 10, or 4 where the ratio
            estimator keeps a density, and 2 where that proposes. Where the chains have
            not converged after the draws asked for, it is doubled as often as needed.
        init_strategy: `"resample"` starts chains from prior draws resampled by their
            tempered posterior weights, `"proposal"` from draws of the prior itself.
        num_candidates: Prior draws to resample the starts from, shared by all chains
            and observations. Where modes could be lost, from thirteen parameters on,
            one chain for every ten of them, 1,000 to 3,000, searches for modes.
        max_rhat: Largest R-hat with which an observation counts as converged; None if
            R-hat does not matter. With `min_ess` None as well, chains end after the
            draws asked for.
        min_ess: Smallest effective sample size, bulk and tail, with which an
            observation counts as converged; None if it does not matter.
        max_steps: Steps after warm-up at which to give up and warn. The draws asked for
            are made in any case.
        max_batch_size: Rows, chains times observations, to hold at a time; None to
            choose by the device.
    """

    kernel: Any = "auto"
    num_chains: int | None = None
    warmup_steps: int = 200
    thin: int | None = None
    init_strategy: Literal["resample", "proposal"] = "resample"
    num_candidates: int = 10_000
    max_rhat: float | None = 1.01
    min_ess: float | None = 400
    max_steps: int = 50_000
    max_batch_size: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        self.check_counts()
        self.validate()

    def check_counts(self) -> None:
        """Raise if a count is no int, or too small."""
        for name in ("num_candidates", "max_steps"):
            check_field(self, name, check_positive_int)
        check_field(self, "warmup_steps", check_non_negative_int)
        for name in ("num_chains", "thin", "max_batch_size"):
            if getattr(self, name) is not None:
                check_field(self, name, check_positive_int)

    def validate(self) -> None:
        """Raise if a field that is no count cannot be."""
        check_choice("init_strategy", self.init_strategy, INIT_STRATEGIES)
        if isinstance(self.kernel, str):
            check_choice("kernel", self.kernel, ("auto", *KERNELS))
        elif not isinstance(self.kernel, Kernel):
            raise TypeError(
                "`kernel` must be a name or a Kernel, got "
                f"{type(self.kernel).__name__}. Make one of a proposal with "
                "`sbi_aalr.mcmc.from_proposal`."
            )
        kernel = (
            KERNELS.get(self.kernel) if isinstance(self.kernel, str) else self.kernel
        )
        if kernel is not None and kernel.uses_population and (self.num_chains or 4) < 4:
            raise ValueError(
                "`num_chains` must be at least 4 for a kernel that proposes from other "
                f"chains, got {self.num_chains}."
            )
        for name in ("max_rhat", "min_ess"):
            if getattr(self, name) is not None:
                check_field(self, name, check_positive_float)
        if self.max_rhat is not None and self.max_rhat <= 1:
            raise ValueError(f"`max_rhat` must be above 1, got {self.max_rhat!r}.")

    @property
    def has_limits(self) -> bool:
        """Whether sampling goes on until limits are met."""
        return self.max_rhat is not None or self.min_ess is not None

    def to_dict(self) -> dict[str, Any]:
        """The fields by name; the kernel is not copied."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
