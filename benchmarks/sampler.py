"""Measure the sampler beside sbi's, lampe's and the plain recipe's, in one run.

    python benchmarks/sampler.py one --seed 1      # one observation, ESS a second
    python benchmarks/sampler.py many --seed 1     # a test set
    python benchmarks/sampler.py rate --seed 1     # share of the matrix-product rate
    python benchmarks/sampler.py growth --seed 1   # time against observations
    python benchmarks/sampler.py many --fitted runs/fitted/two_moons-10000

All but `rate` sample an estimator that sbi's NRE_A fits first, `many` also one that
`sbibm.py --keep` kept. Absolute times move with the machine: read the ratios. Of `many`
they are of the processor, as another process may slow one of the two down; set
`OMP_NUM_THREADS=1`, so that it is the same as time on the wall of a quiet machine.
"""

import argparse
import platform
import resource
import time
import warnings
from pathlib import Path

import recipe
import torch
from sbi.inference import NRE_A
from sbi.inference.posteriors import MCMCPosterior

from sbi_aalr import MHPosterior, networks
from sbi_aalr.comparison import TASKS
from sbi_aalr.mcmc import convergence
from sbi_aalr.simulators import SLCP
from sbi_aalr.trainer.sbi_trainer import NoTracker

SECONDS_FOR_SBI = 300


def fit_nre_a(slcp: SLCP, num_simulations: int, seed: int):
    torch.manual_seed(seed)
    theta = slcp.prior.sample((num_simulations,))
    trainer = NRE_A(slcp.prior, tracker=NoTracker(), show_progress_bars=False)
    trainer.append_simulations(theta, slcp.simulate(theta))
    return trainer.train(max_num_epochs=60)


def simulate_observations(task, count: int, seed: int) -> torch.Tensor:
    torch.manual_seed(seed + 1_000)
    return task.simulate(task.prior.sample((count,)))


def peak_memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:,.0f} MiB"


def describe(name: str, chains: torch.Tensor, seconds: float) -> dict:
    """Figures of chains `(C, S, D)`."""
    theta = chains.unsqueeze(2)
    ess = float(convergence.ess_bulk(theta).min())
    rhat = float(convergence.rhat(theta).max())
    return {"name": name, "seconds": seconds, "ess": ess, "rhat": rhat}


def sample_with_lampe(posterior: MHPosterior, x: torch.Tensor, num_draws: int):
    """lampe's Metropolis-Hastings, 100 chains from the prior, unit steps by default."""
    from lampe.inference import MetropolisHastings

    chain_x = x.expand(100, -1)
    estimator, prior = posterior.potential_fn.ratio_estimator, posterior.proposal

    def log_f(theta):
        return estimator(theta, chain_x) + prior.log_prob(theta)

    with torch.no_grad():
        started = time.perf_counter()
        sampler = MetropolisHastings(prior.sample((100,)), log_f=log_f)
        draws = list(sampler(500 + num_draws * 10, burn=500, step=10))
        return torch.stack(draws, dim=1), time.perf_counter() - started


def compare_one(slcp, estimator, seed: int, num_samples: int = 10_000) -> None:
    x = simulate_observations(slcp, 1, seed)
    posterior = MHPosterior.from_estimator(estimator, slcp.prior)
    options = {"x": x, "show_progress_bars": False}
    posterior.sample((100,), seed=seed, max_steps=10, max_rhat=None, **options)
    started = time.perf_counter()
    posterior.sample((num_samples,), seed=seed, **options)
    seconds = time.perf_counter() - started
    rows = [describe("`MHPosterior`", posterior.chains.theta[:, :, 0], seconds)]
    mcmc = MCMCPosterior(
        posterior.potential_fn, slcp.prior, theta_transform=posterior.theta_transform
    )
    torch.manual_seed(seed)
    started = time.perf_counter()
    draws = mcmc.sample((num_samples,), **options)
    seconds = time.perf_counter() - started
    chains = draws.reshape(mcmc.num_chains, -1, draws.shape[-1])
    rows.append(describe("sbi `slice_np_vectorized`", chains, seconds))
    rows.append(
        describe("lampe `MetropolisHastings`", *sample_with_lampe(posterior, x, 1_000))
    )
    torch.manual_seed(seed)
    rows.append(
        describe("plain recipe", *recipe.sample(estimator, slcp.prior, x, 1_000))
    )
    print(f"One observation, {num_samples:,} samples from the same NRE_A estimator\n")
    print("| sampler | seconds | least bulk ESS | ESS/s | R-hat | ours ÷ this |")
    print("|---|---|---|---|---|---|")
    best = rows[0]["ess"] / rows[0]["seconds"]
    for row in rows:
        rate = row["ess"] / row["seconds"]
        print(
            f"| {row['name']} | {row['seconds']:.2f} | {row['ess']:,.0f} | {rate:,.0f} "
            f"| {row['rhat']:.3f} | {best / rate:.1f} |"
        )
    print(f"\nPeak memory {peak_memory()}.")


def time_batch(posterior: MHPosterior, x: torch.Tensor, seed: int) -> float:
    started = time.perf_counter()
    posterior.sample_batched((1_000,), x, seed=seed, show_progress_bars=False)
    return time.perf_counter() - started


def compare_many(task, posterior: MHPosterior, seed: int, count: int) -> None:
    x = simulate_observations(task, count, seed)
    time_batch(posterior, x[:4], seed)
    began = time.process_time()
    time_batch(posterior, x, seed)
    seconds = time.process_time() - began
    memory, figures = peak_memory(), posterior.diagnostics()
    mcmc = MCMCPosterior(
        posterior.potential_fn, task.prior, theta_transform=posterior.theta_transform
    )
    torch.manual_seed(seed)
    done, started = 0, time.process_time()
    while time.process_time() - started < SECONDS_FOR_SBI and done < count:
        mcmc.sample_batched((1_000,), x[done : done + 10], show_progress_bars=False)
        done += len(x[done : done + 10])
    theirs = (time.process_time() - started) / done * count
    converged = int(figures["converged"].sum())
    print(f"{count:,} observations, 1,000 samples each, the same estimator\n")
    print("| sampler | seconds | an observation, ms | converged | peak memory |")
    print("|---|---|---|---|---|")
    print(
        f"| `MHPosterior` | {seconds:.0f} | {seconds / count * 1e3:.0f} | {converged} "
        f"of {count} | {memory} |"
    )
    print(
        f"| sbi `sample_batched`, from {done} observations | {theirs:.0f} | "
        f"{theirs / count * 1e3:.0f} | not measured | {peak_memory()} |"
    )
    print(f"\nsbi's time ÷ ours: {theirs / seconds:.1f}")


def measure_growth(slcp, estimator, seed: int, counts: list[int]) -> None:
    posterior = MHPosterior.from_estimator(estimator, slcp.prior)
    x = simulate_observations(slcp, max(counts), seed)
    print("| observations | seconds | an observation, ms | converged | peak memory |")
    print("|---|---|---|---|---|")
    for count in counts:
        seconds = time_batch(posterior, x[:count], seed)
        converged = int(posterior.diagnostics()["converged"].sum())
        print(
            f"| {count:,} | {seconds:.1f} | {seconds / count * 1e3:.0f} "
            f"| {converged:,} | {peak_memory()} |",
            flush=True,
        )


def measure_rate(slcp, seed: int) -> None:
    """Share of the matrix-product rate while sampling with the 3 x 256 MLP."""
    torch.manual_seed(seed)
    theta = slcp.prior.sample((2_000,))
    estimator = networks.mlp()(theta, slcp.simulate(theta)).eval()
    weights = [p for p in estimator.net.parameters() if p.ndim == 2]
    operations = 2 * sum(weight.numel() for weight in weights)
    posterior = MHPosterior.from_estimator(
        estimator, slcp.prior, num_chains=1_000, warmup_steps=0, max_rhat=None
    )
    posterior = MHPosterior(
        posterior.potential_fn, parameters=posterior.parameters.with_param(min_ess=None)
    )
    x = simulate_observations(slcp, 1, seed)
    square = torch.randn(1_024, 1_024)
    shares, rates = [], []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(40):
            square @ square
        peak = 40 * 2 * 1_024**3 / (time.perf_counter() - started)
        draws = 40
        started = time.perf_counter()
        posterior.sample((1_000 * draws,), x, show_progress_bars=False, seed=seed)
        seconds = time.perf_counter() - started
        evaluations = 1_000 * draws * 10 + posterior.parameters.num_candidates
        rates.append(evaluations * operations / seconds)
        shares.append(rates[-1] / peak)
    middle = sorted(shares)[2]
    print(
        f"Sampling with the 3 x 256 MLP, 1,000 rows at a time: {middle:.0%} of "
        f"the rate of a 1,024 x 1,024 matrix product (median of 5, {min(shares):.0%} "
        f"to {max(shares):.0%}; {sorted(rates)[2] / 1e9:.0f} GFLOP/s). Peak memory "
        f"{peak_memory()}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=["one", "many", "rate", "growth"])
    parser.add_argument("--num-simulations", type=int, default=20_000)
    parser.add_argument("--observations", type=int, nargs="+")
    parser.add_argument("--fitted", type=Path, help="folder TASK-BUDGET, for `many`")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{platform.machine()}, seed {options.seed}\n"
    )
    counts = options.observations or [1_000]
    if options.case == "many" and options.fitted is not None:
        task = TASKS[options.fitted.name.split("-")[0]]()
        posterior = MHPosterior.load(options.fitted, prior=task.prior)
        return compare_many(task, posterior, options.seed, counts[0])
    slcp = SLCP()
    if options.case == "rate":
        return measure_rate(slcp, options.seed)
    estimator = fit_nre_a(slcp, options.num_simulations, options.seed)
    if options.case == "one":
        return compare_one(slcp, estimator, options.seed)
    if options.case == "many":
        posterior = MHPosterior.from_estimator(estimator, slcp.prior)
        return compare_many(slcp, posterior, options.seed, counts[0])
    counts = options.observations or [100, 1_000, 10_000]
    return measure_growth(slcp, estimator, options.seed, counts)


if __name__ == "__main__":
    main()
