"""Settings of `MHPosterior`, in the form of sbi's posterior parameters."""

from dataclasses import dataclass

from sbi.inference.posteriors.posterior_parameters import PosteriorParameters

from sbi_aalr.sampling.settings import Settings


@dataclass(frozen=True)
class MHPosteriorParameters(Settings, PosteriorParameters):
    """Parameters for initializing `MHPosterior`."""

    def __post_init__(self) -> None:
        """Check before sbi casts: it would make 2 of 2.9 chains in silence."""
        self.check_counts()
        # Checks the choices, and calls `validate`.
        PosteriorParameters.__post_init__(self)


# What the fields mean stands in one place.
MHPosteriorParameters.__doc__ = (Settings.__doc__ or "").replace(
    "How to sample.", "Parameters for initializing `MHPosterior`.", 1
)
