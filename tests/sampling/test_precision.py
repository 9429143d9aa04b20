"""The sampler multiplies in full float32 whatever the user allows for networks."""

import pytest
import torch
from sbi.utils import BoxUniform

from sbi_aalr import MHPosterior

BOX = BoxUniform(torch.zeros(2), torch.ones(2))


@pytest.fixture
def _allow_bfloat16():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("backend", [torch.backends.mkldnn, torch.backends.cuda])
def test_settings_of_a_backend_give_way_and_come_back(backend):
    """Where these are used, torch refuses to read the older one."""
    backend.matmul.fp32_precision = "tf32"
    seen = set()

    def potential(theta, x_o):
        seen.add(backend.matmul.fp32_precision)
        return -theta.square().sum(dim=1)

    posterior = MHPosterior(potential, BOX)
    seen.clear()
    try:
        posterior.sample((10,), x=torch.zeros(1), show_progress_bars=False, seed=1)
        assert seen == {"ieee"} and backend.matmul.fp32_precision == "tf32"
    finally:
        backend.matmul.fp32_precision = "none"
    assert torch.get_float32_matmul_precision() == "highest"


def test_who_allows_nothing_finds_the_settings_of_backends_as_they_were():
    backends = torch.backends.mkldnn, torch.backends.cuda
    before = [backend.matmul.fp32_precision for backend in backends]
    posterior = MHPosterior(lambda theta, x_o: -theta.square().sum(dim=1), BOX)
    posterior.sample((10,), x=torch.zeros(1), show_progress_bars=False, seed=1)
    assert [backend.matmul.fp32_precision for backend in backends] == before


@pytest.mark.usefixtures("_allow_bfloat16")
def test_no_product_is_rounded_to_bfloat16_and_the_setting_comes_back():
    seen = set()

    def potential(theta, x_o):
        seen.add((torch.get_float32_matmul_precision(), (theta @ theta.T).dtype))
        return -(((theta - 0.5) / 0.1) ** 2).sum(dim=1)

    posterior = MHPosterior(potential, BOX)
    seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        posterior.sample((10,), x=torch.zeros(1), show_progress_bars=False, seed=1)
        assert torch.is_autocast_enabled("cpu")
    assert seen == {("highest", torch.float32)}
    assert torch.get_float32_matmul_precision() == "medium"
