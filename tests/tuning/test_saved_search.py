"""A search that was saved goes on, where it was saved."""

import pytest
import torch
from fitted_regressions import Ridge
from searches import build


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_saved_search_goes_on_as_if_nothing_had_happened(tmp_path, optimizer):
    def start():
        return build(dropout=0.3, optimizer=optimizer, spectrum_every=3)

    whole = start()
    whole.run(8)
    first = start()
    first.run(4)
    first.save(tmp_path / "search.safetensors")
    second = start()
    second.load(tmp_path / "search.safetensors")
    assert second.history == first.history
    second.run(4)
    for one, other in zip(whole.history, second.history, strict=True):
        assert one[:-1] == other[:-1]  # all but the seconds
    assert torch.equal(whole._model.weight, second._model.weight)


def test_saved_search_holds_no_code(tmp_path):
    search = build()
    search.run(1)
    search.save(tmp_path / "search.safetensors")
    content = (tmp_path / "search.safetensors").read_bytes()
    assert b"pickle" not in content and b"torch" not in content


def test_damaged_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "search.safetensors"
    search = build()
    search.run(1)
    search.save(path)
    other = build(Ridge(num_weights=3))
    with pytest.raises(ValueError, match="built like this one, but its `model`"):
        other.load(path)
    assert other.history == [] and len(other._model.weight) == 3
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        search.load(path)


@pytest.mark.parametrize(
    ("saved", "other"),
    [(torch.optim.SGD, torch.optim.Adam), (torch.optim.Adam, torch.optim.SGD)],
)
def test_state_of_another_kind_of_optimizer_is_refused(tmp_path, saved, other):
    search = build(optimizer=saved)
    search.run(2)
    search.save(tmp_path / "search.safetensors")
    second = build(optimizer=other)
    before = second._model.weight.detach().clone()
    with pytest.raises(ValueError, match=r"its `optimizer_1` .* is of another kind"):
        second.load(tmp_path / "search.safetensors")
    assert second.history == [] and torch.equal(second._model.weight, before)
    assert len(second.run(1)) == 1


def test_state_may_know_of_a_schedule_and_need_not(tmp_path):
    path = tmp_path / "search.safetensors"
    first, second, third = build(), build(), build()
    for search in (first, third):
        torch.optim.lr_scheduler.ExponentialLR(search._weights.optimizers[0], 0.9)
    for saved, other in ((first, second), (second, third)):
        saved.run(1)
        saved.save(path)
        other.load(path)
        assert other.history == saved.history and len(other.run(1)) > 1
