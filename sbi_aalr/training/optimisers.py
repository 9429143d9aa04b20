"""The optimizers of a network: Muon for the matrices of its blocks, AdamW for the rest.

Muon needs a matrix that maps features to features. Biases, the first layers, which see
encoded inputs, and the last ones are not of that kind.
"""

from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from sbi_aalr.networks import GatedBlock
from sbi_aalr.training.muon import Muon
from sbi_aalr.training.recipe import Recipe


def build_optimizers(estimator: nn.Module, recipe: Recipe) -> list[Optimizer]:
    """Muon for the matrices of gated blocks, AdamW for all other weights.

    Args:
        estimator: Whose weights to train.
        recipe: Learning rates and weight decay.

    Returns:
        One or two optimizers, whose groups remember their `initial_lr`.
    """
    matrices: list[Tensor] = [
        layer.weight
        for block in estimator.modules()
        if isinstance(block, GatedBlock)
        for layer in (block.up, block.down)
        if layer.weight.requires_grad
    ]
    taken = set(map(id, matrices))
    others = [
        p for p in estimator.parameters() if p.requires_grad and id(p) not in taken
    ]
    decay = recipe.weight_decay
    optimizers: list[Optimizer] = []
    if others:
        adam: dict[str, Any] = {"betas": (0.9, 0.99), "fused": True}
        rate = recipe.learning_rate
        optimizers.append(AdamW(others, rate, weight_decay=decay, **adam))
    if matrices:
        rate = recipe.matrix_learning_rate
        optimizers.append(Muon(matrices, rate, weight_decay=decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers
