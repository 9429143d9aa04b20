"""Numbers, seeds and devices are checked by one rule wherever they are given."""

import numpy as np
import pytest
import torch
from linear_gaussian import PRIOR, log_ratio, simulate

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.checks import check_device, check_seed
from sbi_aalr.diagnostics import classifier_balance
from sbi_aalr.seeding import seeded


@pytest.mark.parametrize(
    ("seed", "expected"),
    [(0, 0), (np.int64(5), 5), (2**63 - 1, 2**63 - 1), (2**64 + 5, 5), (10**40 % 1, 0)],
)
def test_seeds_of_any_size_are_taken(seed, expected):
    assert check_seed("seed", seed) == expected


def test_a_seed_beyond_64_bits_repeats_and_is_not_just_any_seed():
    draws = []
    for seed in (2**100 + 1, 2**100 + 1, 2**100 + 2):
        with seeded(seed):
            draws.append((torch.rand(3).tolist(), np.random.rand()))
    assert draws[0] == draws[1] != draws[2]
    found = classifier_balance(
        log_ratio, simulate, PRIOR, num_simulations=100, seed=2**64
    )
    assert 0 < found.joint < 1


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (1.0, TypeError), (True, TypeError)]
)
def test_what_is_no_seed_is_named(seed, error):
    with pytest.raises(error, match="`seed` must be an int of at least 0, got"):
        check_seed("seed", seed)


def potential(theta, x_o):
    return -theta.square().sum(1)


@pytest.mark.parametrize(
    "use",
    [
        lambda device: AALR(PRIOR, device=device),
        lambda device: MHPosterior(potential, PRIOR, device=device),
        lambda device: MHPosterior(potential, PRIOR).to(device),
        lambda device: MHPosterior.load("nowhere", device=device),
    ],
)
def test_one_rule_for_devices_wherever_one_is_given(use):
    with pytest.raises(ValueError, match="`device` must be a torch device such as"):
        use("tpu of mine")
    with pytest.raises(TypeError, match="`device` must be a torch device such as"):
        use(3)
    with pytest.raises(ValueError, match="`device` must be a torch device that works"):
        use("meta")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_a_bad_value():
    with pytest.raises(ValueError, match="works here, got 'gpu'"):
        check_device("device", "gpu")
