"""ArviZ 0.x gets its own form of the tree, where it is installed."""

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from known_draws import make_chains

from sbi_aalr.diagnostics import to_datatree, to_inference_data


def test_to_inference_data_without_arviz_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"pip install 'arviz<1'"):
        to_inference_data(to_datatree(make_chains()))


def test_to_inference_data_is_not_for_arviz_1(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", SimpleNamespace(__version__="1.0.0"))
    with pytest.raises(ImportError, match=r"got 1\.0\.0\. That works on the DataTree"):
        to_inference_data(to_datatree(make_chains()))


def test_to_inference_data_hands_the_tree_to_arviz_0(monkeypatch):
    # A stand-in with the one function of ArviZ 0.23 that is used.
    fake = SimpleNamespace(__version__="0.23.4", from_datatree=lambda tree: [tree])
    monkeypatch.setitem(sys.modules, "arviz", fake)
    tree = to_datatree(make_chains())
    assert to_inference_data(tree) == [tree]


@pytest.mark.skipif(
    importlib.util.find_spec("arviz") is None, reason="arviz is not installed"
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_to_inference_data_gives_the_groups_of_the_tree():
    import arviz

    if not arviz.__version__.startswith("0."):
        pytest.skip("arviz 1 has no InferenceData")
    tree = to_datatree(make_chains(), observed_data=torch.ones(3, 8))
    data = to_inference_data(tree)
    assert set(data.groups()) == set(tree.children)
    np.testing.assert_array_equal(data.posterior["theta"], tree["posterior"]["theta"])
    assert set(arviz.rhat(data).data_vars) == {"theta"}
