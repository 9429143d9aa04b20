"""Settings of sbi's sampler, taken where sbi takes them.

What has a meaning here means it; the rest is told in one warning.
"""

import warnings
from collections.abc import Mapping
from typing import Any

from sbi_aalr.checks import check_choice, check_positive_int
from sbi_aalr.errors import UnusedSettingsWarning
from sbi_aalr.posterior.parameters import MHPosteriorParameters

_HMC = ("hmc_pyro", "hmc_pymc")
_OTHERS = (
    "slice_np",
    "slice_np_vectorized",
    "nuts_pyro",
    "nuts_pymc",
    "slice_pymc",
)
# What sbi has by default, which changes nothing there either.
_IDLE: dict[str, Any] = {
    "num_workers": 1,
    "mp_context": "spawn",
    "target_accept": None,
    "x_shape": None,
}
_NUM_CANDIDATES = "num_candidate_samples"
_VI_METHOD = "rKL"
# Arguments of sbi's `build_posterior` that are for other samplers than MCMC.
_OF_OTHERS = (
    "vi_method",
    "vi_parameters",
    "rejection_sampling_parameters",
    "importance_sampling_parameters",
)


def change_settings(
    parameters: MHPosteriorParameters,
    settings: Mapping[str, Any],
    stacklevel: int,
    unused: Mapping[str, Any] | None = None,
) -> MHPosteriorParameters:
    """Change settings, by the names that they have here or in sbi.

    `method="hmc_pyro"` is the kernel `"hmc"`, `init_strategy="sir"` is `"resample"`,
    `num_candidate_samples` in `init_strategy_parameters` is `num_candidates`, and a
    `thin` of -1 is as good as none; `num_chains`, `warmup_steps` and `thin` mean the
    same in both.

    Args:
        parameters: The settings to change.
        settings: Values by name, as for `MHPosteriorParameters` or for sbi's
            `MCMCPosterior`.
        stacklevel: As the caller would give it to `warnings.warn`.
        unused: Others that are to be told as unused.

    Returns:
        The changed settings.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a name or a value is unknown.

    Warns:
        UnusedSettingsWarning: If settings of sbi's sampler have no meaning here. Its
            `value` is how many.
    """
    own, unused = dict(settings), dict(unused or {})
    for name, idle in _IDLE.items():
        if name in own and (value := own.pop(name)) not in (None, idle):
            if name == "num_workers":
                check_positive_int(name, value)
            unused[name] = value
    if (method := own.pop("method", None)) is not None:
        if check_choice("method", method, (*_HMC, *_OTHERS)) in _HMC:
            own.setdefault("kernel", "hmc")
        else:
            unused["method"] = method
    if own.get("thin", 0) == -1:
        del own["thin"]
    if own.get("init_strategy") == "sir":
        own["init_strategy"] = "resample"
    details = own.pop("init_strategy_parameters", None)
    if not isinstance(details, Mapping | None):
        raise TypeError(
            "`init_strategy_parameters` must be a dict or None, got "
            f"{type(details).__name__}."
        )
    for name, value in (details or {}).items():
        if name == _NUM_CANDIDATES:
            own.setdefault("num_candidates", value)
        else:
            unused[f"init_strategy_parameters[{name!r}]"] = value
    changed = parameters.with_param(**own)
    if unused:
        told = ", ".join(f"`{name}={value!r:.60}`" for name, value in unused.items())
        warnings.warn(
            UnusedSettingsWarning(
                f"{told}: of no meaning for `MHPosterior`, and not used. For sbi's "
                "samplers, with all of their settings, build the posterior with "
                "`sample_with='mcmc'`, or another of their names.",
                len(unused),
            ),
            stacklevel=stacklevel + 1,
        )
    return changed


def choose_settings(
    arguments: Mapping[str, Any], stacklevel: int
) -> MHPosteriorParameters:
    """Settings for what sbi's `build_posterior` takes beside `posterior_parameters`.

    Args:
        arguments: `mcmc_method` and `mcmc_parameters`, by name, and those of its other
            samplers.
        stacklevel: As the caller would give it to `warnings.warn`.

    Returns:
        The usual settings with these changes.

    Raises:
        TypeError: If an argument is none of sbi's, or has the wrong type.
        ValueError: If a value is unknown.

    Warns:
        UnusedSettingsWarning: If some have no meaning here.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    unused = {name: given.pop(name) for name in _OF_OTHERS if name in given}
    if unused.get("vi_method") == _VI_METHOD:
        del unused["vi_method"]
    settings = given.pop("mcmc_parameters", {})
    if not isinstance(settings, Mapping):
        raise TypeError(
            f"`mcmc_parameters` must be a dict, got {type(settings).__name__}."
        )
    settings = dict(settings)
    if "mcmc_method" in given:
        settings["method"] = given.pop("mcmc_method")
    if given:
        raise TypeError(
            f"`build_posterior` has no argument `{next(iter(given))}`. Settings of the "
            "sampler go into `posterior_parameters=MHPosteriorParameters(...)`."
        )
    return change_settings(
        MHPosteriorParameters(), settings, stacklevel + 1, unused=unused
    )
