"""The kernels by name. A new one is one file in this folder and one line in `KERNELS`.

The file holds pure functions and a constant `KERNEL` of them; `random_walk.py` is the
shortest to copy, and `mcmc/kernel.py` says what each function gets and returns:

- `build` makes the parameters from the starts, a NamedTuple of tensors whose first
  dimension are the observations;
- `propose` says where to go, and its correction log q(theta|theta') -
  log q(theta'|theta), which is zero only if the proposal is symmetric;
- `tune` and `refit` learn, in warm-up only, and `relearn` between rounds of draws; left
  out, nothing is learned. What has a scale is tuned by `partial(adaptation.tune,
  target=...)`;
- `look_ahead` makes ready for several steps at once, for the kernel that can.

Randomness comes from the given generator alone. `KERNELS` maps the name that users give
as `kernel=` to the constant. Tests that run over `KERNELS` try every line of the table;
the numbers that a seed gives are stored in `tests/same_numbers`.
"""

from sbi_aalr.mcmc.kernels import (
    adaptive_random_walk,
    differential_evolution,
    hmc,
    independence,
    jump_walk,
    random_walk,
)

KERNELS = {
    "jump_walk": jump_walk.KERNEL,
    "random_walk": random_walk.KERNEL,
    "adaptive_random_walk": adaptive_random_walk.KERNEL,
    "differential_evolution": differential_evolution.KERNEL,
    "independence": independence.KERNEL,
    "hmc": hmc.KERNEL,
}
