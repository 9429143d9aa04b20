"""A ratio whose level could not be learned is told of, and one that could is not."""

import warnings

import pytest
import torch
from linear_gaussian import draw_pairs
from sbi.utils import BoxUniform

from sbi_aalr import AALR
from sbi_aalr.errors import NormaliserWarning
from sbi_aalr.networks.stack import Offset
from sbi_aalr.trainer import stacking
from sbi_aalr.training.offset import measure_level_error


def test_error_is_what_the_offset_leaves():
    _, _, x = draw_pairs(101, seed=1)
    offset = Offset(x).eval()
    assert measure_level_error(offset, x, torch.full((101,), 7.0)) == 0.0
    spread = torch.linspace(-8, 8, 101)
    assert measure_level_error(offset, x, spread) == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize("level", [0.0, 40.0])
def test_training_tells_of_it(level, monkeypatch):
    """The error is put in by hand: what is hard enough takes a minute to fit."""
    box = BoxUniform(-torch.ones(2), torch.ones(2))
    torch.manual_seed(1)
    theta = box.sample((400,))
    assemble = stacking.assemble
    monkeypatch.setattr(
        stacking,
        "assemble",
        lambda *given: assemble(*given)._replace(level_error=level),
    )
    trainer = AALR(box, show_progress_bars=False)
    trainer.append_simulations(theta, theta + 0.3 * torch.randn(400, 2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train(seed=1, max_num_epochs=2)
    told = [w.message for w in caught if w.category is NormaliserWarning]
    assert [one.value for one in told] == ([level] if level else [])
