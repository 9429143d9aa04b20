"""Checks of what users pass in: one helper a rule, one wording for all.

Every message says the name, the rule, what was given and, where it is not obvious,
what to do.
"""

from sbi_aalr.checks.names import check_parameter_names, find_parameter_names
from sbi_aalr.checks.priors import check_prior, check_support, draw_apart
from sbi_aalr.checks.ranges import is_in_support
from sbi_aalr.checks.rows import (
    check_finite,
    check_real,
    check_row_shapes,
    check_tensor,
    keep_digits,
    unmask,
)
from sbi_aalr.checks.simulations import check_simulations
from sbi_aalr.checks.support import (
    check_inside,
    check_overlap,
    count_parameters,
    find_outside,
)
from sbi_aalr.checks.values import (
    check_bool,
    check_choice,
    check_device,
    check_executor,
    check_field,
    check_fraction,
    check_int_from,
    check_non_negative_float,
    check_non_negative_int,
    check_positive_float,
    check_positive_int,
    check_seed,
    check_type,
)

__all__ = [
    "check_bool",
    "check_choice",
    "check_device",
    "check_executor",
    "check_field",
    "check_finite",
    "check_fraction",
    "check_inside",
    "check_int_from",
    "check_non_negative_float",
    "check_non_negative_int",
    "check_overlap",
    "check_parameter_names",
    "check_positive_float",
    "check_positive_int",
    "check_prior",
    "check_real",
    "check_row_shapes",
    "check_seed",
    "check_simulations",
    "check_support",
    "check_tensor",
    "check_type",
    "count_parameters",
    "draw_apart",
    "find_outside",
    "find_parameter_names",
    "is_in_support",
    "keep_digits",
    "unmask",
]
