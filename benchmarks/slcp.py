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
    """Fit both in turn; return our estimator and both times."""
    torch.manual_seed(seed)
    network, recipe_seconds = recipe.train(slcp.simulate, slcp.prior, num_simulations)
    trainer = AALR(slcp.prior, show_progress_bars=False)
    started = time.perf_counter()
    estimator = trainer.train_online(
        slcp.simulate, num_simulations=num_simulations, seed=seed
    )
    return estimator, network, time.perf_counter() - started, recipe_seconds


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
    rows.append(
        describe(
            "sbi_aalr MHPosterior (warm-up included)",
            posterior.chains.theta[:, :, 0],
            seconds,
            steps * posterior.parameters.num_chains,
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
    estimator, network, ours, theirs = measure_training(
        slcp, options.num_simulations, options.seed
    )
    estimator.eval()
    recipe_loss = held_out_loss(
        lambda theta, x: network(torch.cat((theta, x), 1)).squeeze(1), slcp
    )
    print(f"Algorithm 1, {options.num_simulations:,} simulations\n")
    print("| | seconds | held-out loss |\n|---|---|---|")
    print(
        f"| `AALR.train_online` | {ours:.1f} | {held_out_loss(estimator, slcp):.4f} |"
    )
    print(f"| plain recipe | {theirs:.1f} | {recipe_loss:.4f} |")
    print(f"| recipe / AALR | {theirs / ours:.2f} | |\n")
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
