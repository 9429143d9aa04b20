"""What each part of the default recipe is worth on SLCP, one part changed at a time.

    python benchmarks/estimator_ablation.py

Every variant sees the same 1,000,000 streamed simulations once. Prints the held-out
cross-entropy, InfoNCE above its optimum, the spread of the log-normaliser over
observations, and processor seconds, which a busy machine changes less than the clock.
"""

import argparse
import time
from unittest import mock

import torch
from estimator import measure_cross_entropy, measure_losses
from torch.optim import AdamW

from sbi_aalr import AALR, fit
from sbi_aalr.networks import is_separable, two_towers
from sbi_aalr.normalisation import measure_normaliser
from sbi_aalr.objective import RatioLoss
from sbi_aalr.recipe import choose_towers
from sbi_aalr.simulators import SLCP


def build_adamw(estimator, recipe):
    optimizer = AdamW(
        estimator.parameters(), recipe.learning_rate, betas=(0.9, 0.99), fused=True
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return [optimizer]


def list_variants(num_simulations):
    """Name, network, loss and settings of the training."""
    towers = choose_towers(num_simulations)
    size = towers["hidden_features"]
    half = {**towers, "hidden_features": 128, "num_features": 128}
    return {
        "default": ("two_towers", None, {}),
        "AdamW for the matrices too": ("two_towers", None, {"optimizer": build_adamw}),
        "no waves": (two_towers(**{**towers, "num_octaves": 0}), None, {}),
        "cross-entropy of all pairs alone": (
            "two_towers",
            RatioLoss(info_nce=0.0),
            {},
        ),
        "one contrast (Algorithm 1)": (
            two_towers(**towers),
            RatioLoss(1, info_nce=0.0),
            {"batch_size": 1024, "learning_rate": 3e-3},
        ),
        "batches of 256": ("two_towers", None, {"batch_size": 256}),
        f"128 wide, not {size}": (two_towers(**half), None, {}),
        "residual MLP, Algorithm 1": ("residual_mlp", None, {}),
        "the paper's MLP, Algorithm 1": ("selu_mlp", None, {}),
    }


def run(slcp, name, variant, num_simulations, seed):
    network, loss, settings = variant
    settings = dict(settings)
    optimizer = settings.pop("optimizer", fit.build_optimizers)
    trainer = AALR(slcp.prior, network, show_progress_bars=False, loss=loss)
    started = time.process_time()
    with mock.patch.object(fit, "build_optimizers", optimizer):
        estimator = trainer.train_online(
            slcp.simulate, num_simulations, seed=seed, num_passes=1, **settings
        )
    seconds = time.process_time() - started
    excess = spread = "–"
    if is_separable(estimator):
        loss, excess = measure_losses(estimator, slcp)
        excess = f"{excess:.2f}"
        torch.manual_seed(3)
        x = slcp.simulate(slcp.prior.sample((200,)))
        normaliser = measure_normaliser(estimator, slcp.prior, x)
        reliable = normaliser.standard_error < 0.2
        spread = f"{normaliser.log_normaliser[reliable].std():.2f}"
    else:
        loss = measure_cross_entropy(estimator, slcp)
    print(
        f"| {name} | {loss:.4f} | {excess} | {spread} | {seconds:.0f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-simulations", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(
        "| | held-out loss, nats | InfoNCE above the optimum | spread of the "
        "log-normaliser | processor seconds |\n|---|---|---|---|---|"
    )
    variants = list_variants(options.num_simulations)
    for name, variant in variants.items():
        run(SLCP(), name, variant, options.num_simulations, options.seed)


if __name__ == "__main__":
    main()
