"""Measure AALR on SLCP beside the plain recipe and sbi's own sampler, in one run.

    python benchmarks/slcp.py --num-simulations 1000000 --seed 1

Prints a Markdown table of ratios: absolute times move with the machine.
"""

import argparse
import platform
import time
import warnings

import recipe
import torch
from sbi.inference.posteriors import MCMCPosterior
from sbi.inference.potentials import ratio_estimator_based_potential

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.diagnostics import rank_statistics
from sbi_aalr.simulators import SLCP


def measure_training(slcp: SLCP, num_simulations: int, seed: int):
    """Fit both; return their networks, and the seconds of both.

    A shared machine drifts within one fit, so the times are those of five short fits
    each, in turn, that add up to the budget; the networks come from one long fit each.
    """

    def fit_recipe(budget):
        torch.manual_seed(seed)
        return recipe.train(slcp.simulate, slcp.prior, budget)

    def fit_aalr(budget):
        trainer = AALR(slcp.prior, "selu_mlp", show_progress_bars=False)
        started = time.perf_counter()
        estimator = trainer.train_online(
            slcp.simulate, num_simulations=budget, seed=seed
        )
        return estimator, time.perf_counter() - started

    share = num_simulations // 5
    pairs = [(fit_aalr(share)[1], fit_recipe(share)[1]) for _ in range(5)]
    ours, theirs = (sum(seconds) for seconds in zip(*pairs, strict=True))
    return {
        "aalr": fit_aalr(num_simulations)[0],
        "aalr_third": fit_aalr(num_simulations // 3)[0],
        "recipe": fit_recipe(num_simulations)[0],
        "aalr_seconds": ours,
        "recipe_seconds": theirs,
    }


@torch.no_grad()
def held_out_loss(log_ratio, slcp: SLCP, rows: int = 100_000) -> float:
    """Binary cross-entropy on fresh pairs, nats."""
    torch.manual_seed(0)
    theta, theta_prime = slcp.prior.sample((rows,)), slcp.prior.sample((rows,))
    x = slcp.simulate(theta)
    softplus = torch.nn.functional.softplus
    joint, marginal = log_ratio(theta, x), log_ratio(theta_prime, x)
    return float((softplus(-joint) + softplus(marginal)).mean() / 2)


def describe(name: str, chains: torch.Tensor, seconds: float, num_proposals: int):
    """One row of the table, of chains `(C, S, D)`."""
    theta = chains.unsqueeze(2)
    ess = float(rank_statistics.ess_bulk(theta).min())
    return {
        "name": name,
        "seconds": seconds,
        "proposals": num_proposals / seconds,
        "ess": ess,
        "ess_per_second": ess / seconds,
        "rhat": float(rank_statistics.rhat(theta).max()),
    }


def measure_samplers(slcp: SLCP, estimator, seed: int, num_samples: int) -> list[dict]:
    """Sample one observation with each sampler on the same estimator."""
    generator = torch.Generator().manual_seed(seed)
    x_o = slcp.simulate(slcp.true_parameters.unsqueeze(0), generator=generator)
    rows = []

    posterior = MHPosterior.from_estimator(estimator, slcp.prior)
    started = time.perf_counter()
    posterior.sample((num_samples,), x=x_o, seed=seed, show_progress_bars=False)
    seconds = time.perf_counter() - started
    steps = posterior.parameters.warmup_steps + int(posterior.diagnostics().num_steps)
    chains = posterior.chains.theta[:, :, 0]
    rows.append(
        describe(
            "sbi_aalr MHPosterior (warm-up included)",
            chains,
            seconds,
            steps * len(chains),
        )
    )

    torch.manual_seed(seed)
    chains, seconds = recipe.sample(estimator, slcp.prior, x_o, num_draws=400)
    rows.append(
        describe(
            "plain recipe (no warm-up)", chains, seconds, 10 * chains.shape[1] * 10
        )
    )

    potential_fn, transform = ratio_estimator_based_potential(
        estimator, slcp.prior, x_o
    )
    evaluations = 0
    count = potential_fn.__class__.__call__

    def counted(self, theta, **kwargs):
        nonlocal evaluations
        evaluations += theta.shape[0]
        return count(self, theta, **kwargs)

    mcmc = MCMCPosterior(potential_fn, proposal=slcp.prior, theta_transform=transform)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        potential_fn.__class__.__call__ = counted
        started = time.perf_counter()
        samples = mcmc.sample((num_samples,), x=x_o, show_progress_bars=False)
        seconds = time.perf_counter() - started
        potential_fn.__class__.__call__ = count
    chains = samples.reshape(mcmc.num_chains, -1, samples.shape[-1])
    rows.append(
        describe("sbi slice_np_vectorized (default)", chains, seconds, evaluations)
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-simulations", type=int, default=1_000_000)
    parser.add_argument("--num-samples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    slcp = SLCP()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{platform.machine()}, seed {options.seed}\n"
    )
    fits = measure_training(slcp, options.num_simulations, options.seed)
    ours, theirs, network = (
        fits["aalr_seconds"],
        fits["recipe_seconds"],
        fits["recipe"],
    )
    losses = {
        "recipe": held_out_loss(
            lambda theta, x: network(torch.cat((theta, x), 1)).squeeze(1), slcp
        ),
        "aalr": held_out_loss(fits["aalr"], slcp),
        "third": held_out_loss(fits["aalr_third"], slcp),
    }
    estimator = fits["aalr"]
    print(f"Algorithm 1 on {options.num_simulations:,} simulations\n")
    print("| | seconds | recipe's seconds ÷ this | held-out loss, nats |")
    print("|---|---|---|---|")
    print(f"| plain recipe | {theirs:.1f} | 1.00 | {losses['recipe']:.4f} |")
    print(
        f"| `AALR.train_online` | {ours:.1f} | {theirs / ours:.2f} "
        f"| {losses['aalr']:.4f} |"
    )
    print(
        f"| the same on a third of the simulations | {ours / 3:.1f} "
        f"| {3 * theirs / ours:.2f} | {losses['third']:.4f} |\n"
    )
    rows = measure_samplers(slcp, estimator, options.seed, options.num_samples)
    print(f"One observation, {options.num_samples:,} samples, the same estimator\n")
    print(
        "| sampler | seconds | proposals/s | min bulk ESS | ESS/s | worst R-hat "
        "| ESS/s, ours ÷ this |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        ratio = rows[0]["ess_per_second"] / row["ess_per_second"]
        print(
            f"| {row['name']} | {row['seconds']:.2f} | {row['proposals']:,.0f} | "
            f"{row['ess']:,.0f} | {row['ess_per_second']:,.0f} | {row['rhat']:.3f} | "
            f"{ratio:.1f} |"
        )


if __name__ == "__main__":
    main()
