"""What each part of the default recipe is worth on SLCP, one part changed at a time.

    python benchmarks/estimator_ablation.py streamed
    python benchmarks/estimator_ablation.py stored
    python benchmarks/estimator_ablation.py passes

Every variant sees the same 1,000,000 streamed simulations once, or the same 100,000
stored ones as often as the recipe says. Prints the held-out cross-entropy, InfoNCE
above its optimum, the spread of the log-normaliser over observations, and processor
seconds, which a busy machine changes less than the clock. `passes` fits other problems
by 50,000 streamed simulations, and prints which pass was kept, and what for.
"""

import argparse
import time
from contextlib import contextmanager
from unittest import mock

import torch
from estimator import draw_simulations, measure_cross_entropy, measure_losses
from sbi.utils import BoxUniform
from torch.optim import AdamW

from sbi_aalr import AALR
from sbi_aalr.networks import is_separable, towers, two_towers
from sbi_aalr.sampling.normaliser import PriorDraws
from sbi_aalr.simulators import SLCP
from sbi_aalr.trainer import online, stored
from sbi_aalr.training import RatioLoss, loop
from sbi_aalr.training.optimisers import build_optimizers
from sbi_aalr.training.recipe import choose_recipe, find_entry


def build_adamw(estimator, recipe):
    optimizer = AdamW(
        estimator.parameters(), recipe.learning_rate, betas=(0.9, 0.99), fused=True
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return [optimizer]


def list_stored(num_simulations):
    """Name, network and parts of the recipe."""
    usual, recipe = find_entry(num_simulations)[1:]
    blocks, dropout = usual["num_blocks"], usual["dropout"]
    octaves, width = usual["num_octaves"], usual["hidden_features"]
    changes = {
        "default": {},
        f"{blocks - 1} blocks, not {blocks}": {"num_blocks": blocks - 1},
        f"{octaves + 1} octaves, not {octaves}": {"num_octaves": octaves + 1},
        f"{octaves - 1} octaves": {"num_octaves": octaves - 1},
        f"dropout {2 * dropout}, not {dropout}": {"dropout": 2 * dropout},
        f"{width * 4 // 3} wide, not {width}": {"hidden_features": width * 4 // 3},
    }
    variants = {
        name: (two_towers(**{**usual, **change}), {})
        for name, change in changes.items()
    }
    twice = {"num_passes": 2 * recipe.num_passes}
    variants["twice the passes"] = (two_towers(**usual), twice)
    variants["batches of 1,024"] = (two_towers(**usual), {"batch_size": 1024})
    return variants


def list_streamed(num_simulations):
    """Name, network, loss and settings of the training."""
    usual, recipe = find_entry(num_simulations)[1:]
    blocks, octaves = usual["num_blocks"], usual["num_octaves"]
    width = usual["hidden_features"]
    rate = recipe.matrix_learning_rate

    def change(**settings):
        return two_towers(**{**usual, **settings})

    return {
        "default": ("two_towers", None, {}),
        "features of order one": ("two_towers", None, {"largest_log_scale": 0.0}),
        f"{blocks - 1} blocks, not {blocks}": (
            change(num_blocks=blocks - 1),
            None,
            {},
        ),
        f"{octaves + 3} octaves, not {octaves}": (
            change(num_octaves=octaves + 3),
            None,
            {},
        ),
        "no waves": (change(num_octaves=0), None, {}),
        f"{width * 4 // 3} wide, not {width}": (
            change(hidden_features=width * 4 // 3),
            None,
            {},
        ),
        f"Muon's rate {2 * rate}, not {rate}": (
            "two_towers",
            None,
            {"recipe": {"matrix_learning_rate": 2 * rate}},
        ),
        "AdamW for the matrices too": ("two_towers", None, {"optimizer": build_adamw}),
        "batches of 256": ("two_towers", None, {"batch_size": 256}),
        "cross-entropy of all pairs alone": (
            "two_towers",
            RatioLoss(info_nce=0.0),
            {},
        ),
        "one contrast (Algorithm 1)": (
            change(),
            RatioLoss(1, info_nce=0.0),
            {"batch_size": 1024, "learning_rate": 2e-3},
        ),
        "residual MLP, Algorithm 1": ("residual_mlp", None, {}),
        "the paper's MLP, Algorithm 1": ("selu_mlp", None, {}),
    }


def run_streamed(slcp, name, variant, num_simulations, seed):
    network, loss, settings = variant
    settings = dict(settings)
    optimizer = settings.pop("optimizer", build_optimizers)
    largest = settings.pop("largest_log_scale", towers._LARGEST_LOG_SCALE)
    trainer = AALR(slcp.prior, network, show_progress_bars=False, loss=loss)
    started = time.process_time()
    with (
        mock.patch.object(loop, "build_optimizers", optimizer),
        mock.patch.object(towers, "_LARGEST_LOG_SCALE", largest),
        changed_recipe(settings.pop("recipe", {})),
    ):
        estimator = trainer.train_online(
            slcp.simulate, num_simulations, seed=seed, num_passes=1, **settings
        )
        describe(slcp, name, estimator, time.process_time() - started)


@contextmanager
def changed_recipe(changes):
    """Change parts of the default recipe inside."""

    def choose(*arguments, **options):
        return choose_recipe(*arguments, **options)._replace(**changes)

    with (
        mock.patch.object(online, "choose_recipe", choose),
        mock.patch.object(stored, "choose_recipe", choose),
    ):
        yield


def run_stored(slcp, name, variant, num_simulations, seed):
    network, changes = variant
    trainer = AALR(slcp.prior, network, show_progress_bars=False)
    trainer.append_simulations(*draw_simulations(slcp, num_simulations, seed))
    started = time.process_time()
    with changed_recipe(changes):
        estimator = trainer.train(seed=seed)
    describe(slcp, name, estimator, time.process_time() - started)


def simulate_decay(theta):
    """Amplitude and rate of the README's signal."""
    time = torch.linspace(0, 3, 10)
    signal = theta[:, :1] * torch.exp(-theta[:, 1:] * time)
    return signal + torch.randn_like(signal)


def simulate_weak(theta):
    """Data that say little about any parameter."""
    return theta.tanh() + 2 * torch.randn_like(theta)


def simulate_ring(theta):
    """A ring in two parameters, with a noise whose logarithm is the third."""
    radius = theta[:, :2].norm(dim=1)
    mean = torch.stack((radius, theta[:, 2] * theta[:, 0]), dim=1)
    return mean + 0.1 * theta[:, 2:].exp() * torch.randn_like(mean)


def list_problems():
    """Name, prior and simulator."""
    low, high = torch.tensor([0.0, 0.1]), torch.tensor([10.0, 2.0])
    ten, three = torch.full((10,), 2.0), torch.full((3,), 2.0)
    return {
        "decay, 2 parameters": (BoxUniform(low, high), simulate_decay),
        "little information, 10": (BoxUniform(-ten, ten), simulate_weak),
        "ring, 3": (BoxUniform(-three, three), simulate_ring),
        "SLCP, 5": (SLCP().prior, SLCP().simulate),
    }


def run_passes(num_simulations, seed):
    print(
        "| problem | held-out loss of the pass that was kept | which | of the last "
        "| processor seconds |\n|---|---|---|---|---|"
    )
    for name, (prior, simulate) in list_problems().items():
        trainer = AALR(prior, show_progress_bars=False)
        started = time.process_time()
        trainer.train_online(simulate, num_simulations, seed=seed)
        seconds = time.process_time() - started
        losses = trainer.summary["validation_loss"]
        best = losses.index(min(losses))
        print(
            f"| {name} | {losses[best]:.3f} | {best + 1} of {len(losses)} "
            f"| {losses[-1]:.3f} | {seconds:.0f} |",
            flush=True,
        )


def describe(slcp, name, estimator, seconds):
    excess = spread = "–"
    if is_separable(estimator):
        loss, excess = measure_losses(estimator, slcp)
        excess = f"{excess:.2f}"
        torch.manual_seed(3)
        x = slcp.simulate(slcp.prior.sample((200,)))
        normaliser = PriorDraws(estimator, slcp.prior).measure(x)
        reliable = normaliser.standard_error < 0.2
        spread = f"{normaliser.log_normaliser[reliable].std():.2f}"
    else:
        loss = measure_cross_entropy(estimator, slcp)
    print(
        f"| {name} | {loss:.4f} | {excess} | {spread} | {seconds:.0f} |",
        flush=True,
    )


RUNS = {
    "streamed": (1_000_000, list_streamed, run_streamed),
    "stored": (100_000, list_stored, run_stored),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", choices=[*RUNS, "passes"])
    parser.add_argument("--num-simulations", type=int)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.run == "passes":
        return run_passes(options.num_simulations or 50_000, options.seed)
    usual, list_variants, run = RUNS[options.run]
    num_simulations = options.num_simulations or usual
    print(
        "| | held-out loss, nats | InfoNCE above the optimum | spread of the "
        "log-normaliser | processor seconds |\n|---|---|---|---|---|"
    )
    for name, variant in list_variants(num_simulations).items():
        run(SLCP(), name, variant, num_simulations, options.seed)


if __name__ == "__main__":
    main()
