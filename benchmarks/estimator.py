"""Measure how accurate the default recipe is on SLCP, a row of the table at a time.

    python benchmarks/estimator.py streamed
    python benchmarks/estimator.py stored --num-simulations 10000 --time-limit 120

Prints a row of a Markdown table: mean C2ST (sbi's, 0.5 is perfect) between converged
draws and exact ones over ten observations, held-out loss, and seconds of training. The
observations of `--observations tuning` are others; they are for trying things out.
"""

import argparse
import time

import recipe
import torch
from sbi.inference import NRE_A
from sbi.utils.metrics import c2st

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.networks import is_separable
from sbi_aalr.networks.pairs import take_apart
from sbi_aalr.simulators import SLCP
from sbi_aalr.trainer.sbi_trainer import NoTracker
from sbi_aalr.training.ratio_loss import compute_all_pairs

SEEDS = {"reported": range(1_001, 1_011), "tuning": range(2_001, 2_005)}
NUM_DRAWS = 5_000
# Long enough for independent draws, and from enough starts for four equal modes.
SAMPLING = {
    "thin": 40,
    "num_candidates": 200_000,
    "min_ess": 1_000.0,
    "max_steps": 40_000,
    "show_progress_bars": False,
}


def simulate_observations(slcp, name):
    """Observations at prior draws, one a seed."""
    rows = []
    for seed in SEEDS[name]:
        generator = torch.Generator().manual_seed(seed)
        theta = 6 * torch.rand(1, 5, generator=generator) - 3
        rows.append(slcp.simulate(theta, generator=generator))
    return torch.cat(rows)


def measure_c2st(estimator, slcp, x, seed, prior=None):
    """C2ST and worst R-hat for each observation."""
    posterior = MHPosterior.from_estimator(estimator, prior or slcp.prior)
    results = []
    for index, x_o in enumerate(x):
        draws = posterior.sample((NUM_DRAWS,), x=x_o, seed=seed, **SAMPLING)
        rhat = float(posterior.summary()["r_hat"].max())
        exact = slcp.sample_posterior(NUM_DRAWS, x_o, seed=index)
        results.append((float(c2st(draws, exact)), rhat))
    return results


@torch.no_grad()
def measure_losses(estimator, slcp, rows=100_000, num_x=1_000, num_theta=100_000):
    """Held-out cross-entropy, and how far it and InfoNCE are above their optimum, nats.

    InfoNCE with many contrasts is the expected divergence from the exact posterior, up
    to what that many contrasts can tell apart.
    """
    torch.manual_seed(0)
    theta, theta_prime = slcp.prior.sample((rows,)), slcp.prior.sample((rows,))
    x = slcp.simulate(theta)
    softplus = torch.nn.functional.softplus
    joint = torch.cat([estimator(*part) for part in split(theta, x)])
    marginal = torch.cat([estimator(*part) for part in split(theta_prime, x)])
    cross_entropy = float((softplus(-joint) + softplus(marginal)).mean() / 2)
    contrasts = slcp.prior.sample((num_theta,))
    excess = 0.0
    parts = take_apart(estimator)
    embedded = torch.cat([parts.embed_theta(part) for part in contrasts.split(2_000)])
    for theta_part, x_part in zip(
        theta[:num_x].split(50), x[:num_x].split(50), strict=True
    ):
        exact = slcp.log_likelihood(contrasts.unsqueeze(1), x_part)
        exact_joint = slcp.log_likelihood(theta_part, x_part)
        best = torch.logaddexp(exact_joint, exact.logsumexp(0)) - exact_joint
        logits = parts.combine_all(embedded, parts.embed_x(x_part))
        own = compute_all_pairs(estimator, theta_part, x_part).diagonal()
        found = torch.logaddexp(own, logits.logsumexp(0)) - own
        excess += float((found - best).sum())
    return cross_entropy, excess / num_x


def split(*tensors):
    return zip(*(tensor.split(2_000) for tensor in tensors), strict=True)


class Stopwatch:
    """Seconds by the clock, and of the processors: a busy machine changes less."""

    def __init__(self):
        self._started = time.perf_counter(), time.process_time()

    def read_clock(self):
        return time.perf_counter() - self._started[0]

    def read(self):
        processors = time.process_time() - self._started[1]
        return f"{self.read_clock():.0f} ({processors:.0f})"


def describe(name, estimator, seconds, slcp, options):
    if options.observations == "none":
        print(f"| {name} | {seconds} |")
        return
    x = simulate_observations(slcp, options.observations)
    started = time.perf_counter()
    results = measure_c2st(estimator, slcp, x, options.seed)
    sampling = (time.perf_counter() - started) / len(x)
    scores = torch.tensor([score for score, _ in results])
    if is_separable(estimator):
        loss, excess = measure_losses(estimator, slcp)
        excess = f"{excess:.2f}"
    else:
        loss, excess = measure_cross_entropy(estimator, slcp), "–"
    each = " ".join(f"{score:.2f}" for score in scores.tolist())
    print(
        f"| {name} | {seconds} | {loss:.4f} | {excess} | {scores.mean():.3f} ± "
        f"{scores.std():.3f} | {each} | {max(rhat for _, rhat in results):.3f} | "
        f"{sampling:.1f} |",
        flush=True,
    )


def draw_simulations(slcp, num_simulations, seed):
    torch.manual_seed(seed)
    theta = slcp.prior.sample((num_simulations,))
    return theta, slcp.simulate(theta)


def save(estimator, slcp, options):
    if options.out:
        MHPosterior.from_estimator(estimator, slcp.prior).save(options.out)


def run_streamed(slcp, options):
    trainer = AALR(slcp.prior, show_progress_bars=options.progress)
    watch = Stopwatch()
    estimator = trainer.train_online(
        slcp.simulate,
        options.num_simulations or 1_000_000,
        seed=options.seed,
        time_limit=options.time_limit,
    )
    seconds = watch.read()
    save(estimator, slcp, options)
    name = f"{options.num_simulations or 1_000_000:,} streamed"
    describe(name, estimator, seconds, slcp, options)
    print(trainer.summary["recipe"][-1], len(trainer.summary["training_loss"]), "steps")


def run_stored(slcp, options):
    num_simulations = options.num_simulations or 100_000
    theta, x = draw_simulations(slcp, num_simulations, options.seed)
    trainer = AALR(slcp.prior, show_progress_bars=options.progress)
    watch = Stopwatch()
    estimator = trainer.append_simulations(theta, x).train(
        seed=options.seed, time_limit=options.time_limit
    )
    seconds = watch.read()
    save(estimator, slcp, options)
    describe(f"{num_simulations:,} stored", estimator, seconds, slcp, options)
    losses = trainer.summary["validation_loss"]
    print(trainer.summary["recipe"][-1], f"{len(losses)} passes, best {min(losses)}")


def run_truncated(slcp, options):
    """Three rounds for the first of the observations."""
    num_simulations = options.num_simulations or 100_000
    x_o = simulate_observations(slcp, options.observations)[:1]
    trainer = AALR(slcp.prior, show_progress_bars=options.progress)
    watch = Stopwatch()
    estimator = trainer.train_truncated(
        slcp.simulate,
        x_o,
        num_simulations,
        seed=options.seed,
        time_limit=options.time_limit,
    )
    seconds = watch.read()
    prior = trainer.build_posterior().proposal
    ((score, rhat),) = measure_c2st(estimator, slcp, x_o, options.seed, prior)
    shares = ", ".join(f"{share:.2g}" for share in trainer.summary["accepted_share"])
    print(
        f"| {num_simulations:,} in three truncated rounds, one observation | "
        f"{seconds} | | | {score:.3f} | | {rhat:.3f} | |\naccepted: {shares}; "
        f"trained on {[r['num_simulations'] for r in trainer.summary['recipe']]}"
    )


def run_nre_a(slcp, options):
    """sbi's own trainer with its defaults, then ours in a fifth of its time."""
    num_simulations = options.num_simulations or 100_000
    theta, x = draw_simulations(slcp, num_simulations, options.seed)
    torch.manual_seed(options.seed)
    trainer = NRE_A(slcp.prior, tracker=NoTracker(), show_progress_bars=False)
    watch = Stopwatch()
    peer = trainer.append_simulations(theta, x).train()
    seconds, limit = watch.read(), watch.read_clock() / 5
    epochs = trainer.summary["epochs_trained"][-1]
    describe(f"sbi `NRE_A`, {epochs} epochs", peer, seconds, slcp, options)
    trainer = AALR(slcp.prior, show_progress_bars=False).append_simulations(theta, x)
    watch = Stopwatch()
    ours = trainer.train(seed=options.seed, time_limit=limit)
    seconds = watch.read()
    describe("`AALR` in a fifth of its time", ours, seconds, slcp, options)


def run_recipe(slcp, options):
    """Train the plain recipe, then AALR for a third of its time, on as many."""
    num_simulations = options.num_simulations or 1_000_000
    torch.manual_seed(options.seed)
    network, seconds = recipe.train(slcp.simulate, slcp.prior, num_simulations)
    trainer = AALR(slcp.prior, show_progress_bars=False)
    limit = seconds / 3
    estimator = trainer.train_online(
        slcp.simulate, num_simulations, seed=options.seed, time_limit=limit
    )
    theirs = measure_cross_entropy(
        lambda theta, x: network(torch.cat((theta, x), 1)).squeeze(1), slcp
    )
    ours = measure_cross_entropy(estimator, slcp)
    spent = trainer.summary["fit_seconds"][-1]
    print(f"| plain recipe | {seconds:.1f} | {theirs:.4f} |")
    print(f"| AALR in a third of its time | {spent:.1f} | {ours:.4f} |")


@torch.no_grad()
def measure_cross_entropy(log_ratio, slcp, rows=100_000):
    torch.manual_seed(0)
    theta, theta_prime = slcp.prior.sample((rows,)), slcp.prior.sample((rows,))
    x = slcp.simulate(theta)
    softplus = torch.nn.functional.softplus
    joint, marginal = log_ratio(theta, x), log_ratio(theta_prime, x)
    return float((softplus(-joint) + softplus(marginal)).mean() / 2)


def run_evaluate(slcp, options):
    """Describe a posterior saved before."""
    posterior = MHPosterior.load(options.out)
    estimator = posterior.potential_fn.ratio_estimator
    describe(str(options.out), estimator, "saved", slcp, options)


RUNS = {
    "evaluate": run_evaluate,
    "streamed": run_streamed,
    "stored": run_stored,
    "truncated": run_truncated,
    "nre_a": run_nre_a,
    "recipe": run_recipe,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", choices=RUNS)
    parser.add_argument("--num-simulations", type=int)
    parser.add_argument("--time-limit", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--observations", choices=[*SEEDS, "none"], default="reported")
    parser.add_argument("--out", help="folder to save the posterior in")
    parser.add_argument("--progress", action="store_true")
    options = parser.parse_args()
    print(
        "| simulations | seconds (of all processors) | held-out loss, nats | "
        "InfoNCE above the optimum | C2ST, mean ± sd | each | worst R-hat | "
        "s to sample |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    RUNS[options.run](SLCP(), options)


if __name__ == "__main__":
    main()
