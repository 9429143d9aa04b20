import pytest
import torch

from sbi_aalr.training import muon
from sbi_aalr.training.muon import Muon, orthogonalise


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(20, 20), (3, 30, 10), (10, 40)])
def test_singular_values_come_near_one(shape):
    matrices = draw(*shape)
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.3 and values.max() < 1.4
    # The control: they were not near one before.
    assert torch.linalg.svdvals(matrices).max() > 4


def test_singular_vectors_are_kept():
    matrix = draw(16, 8)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    rotated = left.T @ orthogonalise(matrix) @ right.T
    off_diagonal = rotated - torch.diag(rotated.diagonal())
    assert off_diagonal.abs().max() < 0.1


@pytest.mark.parametrize("is_quick", [True, False])
def test_bfloat16_is_used_where_the_processor_multiplies_it(monkeypatch, is_quick):
    """Elsewhere it takes 25 times as long."""
    multiplied = []
    multiply = torch.baddbmm

    def remember(matrix, *arguments, **settings):
        multiplied.append(matrix.dtype)
        return multiply(matrix, *arguments, **settings)

    monkeypatch.setattr(torch, "baddbmm", remember)
    monkeypatch.setattr(muon, "has_quick_bfloat16", lambda kind: is_quick)
    result = orthogonalise(draw(8, 8))
    assert set(multiplied) == {torch.bfloat16 if is_quick else torch.float32}
    assert result.dtype == torch.float32
    assert float(torch.linalg.svdvals(result).min()) > 0.3


def test_zero_gradient_moves_nothing_and_no_gradient_is_left_alone():
    first = torch.nn.Parameter(draw(4, 4))
    second = torch.nn.Parameter(draw(4, 4))
    before = first.detach().clone(), second.detach().clone()
    first.grad = torch.zeros(4, 4)
    Muon([first, second]).step()
    assert torch.equal(first, before[0]) and torch.equal(second, before[1])


def test_matrices_of_one_shape_move_as_if_alone():
    def move(count):
        matrices = [torch.nn.Parameter(draw(6, 6) + i) for i in range(count)]
        optimizer = Muon(matrices, lr=0.1, weight_decay=0.1)
        for _ in range(3):
            for matrix in matrices:
                matrix.grad = matrix.detach().clone()
            optimizer.step()
        return matrices[0]

    torch.testing.assert_close(move(3), move(1), atol=1e-2, rtol=0)


def test_least_squares_is_solved():
    inputs, truth = draw(200, 8), draw(8, 8).flip(0)
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([weight], lr=0.2)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 300)
        optimizer.zero_grad()
        (inputs @ weight.T - inputs @ truth.T).square().mean().backward()
        optimizer.step()
    assert (weight - truth).abs().max() < 0.05
