"""Two cases beside SLCP: a slow simulator, and images through a CNN.

    python benchmarks/estimator_cases.py slow
    python benchmarks/estimator_cases.py images

Both print the held-out cross-entropy, and the best one where it is known.
"""

import argparse
import time

import torch
from sbi.inference import NRE_A
from sbi.utils import BoxUniform
from torch import nn

from sbi_aalr import AALR
from sbi_aalr.networks import two_towers
from sbi_aalr.simulators import SLCP
from sbi_aalr.trainer.sbi_trainer import NoTracker
from sbi_aalr.training.losses import binary_cross_entropy

SECONDS_PER_SIMULATION = 0.01
SIDE = 64
NOISE = 4.0


@torch.no_grad()
def measure(log_ratio, prior, simulate, rows):
    torch.manual_seed(0)
    theta, theta_prime = prior.sample((rows,)), prior.sample((rows,))
    x = simulate(theta)
    joint, marginal = [], []
    for part in zip(
        theta.split(500), theta_prime.split(500), x.split(500), strict=True
    ):
        joint.append(log_ratio(part[0], part[2]))
        marginal.append(log_ratio(part[1], part[2]))
    return float(binary_cross_entropy(torch.cat(joint), torch.cat(marginal)).mean())


def run_slow(num_simulations, seed, time_limit):
    """SLCP at 10 ms a simulation: simulating is what costs."""
    slcp = SLCP()

    def simulate(theta):
        time.sleep(SECONDS_PER_SIMULATION * len(theta))
        return slcp.simulate(theta)

    trainer = AALR(slcp.prior, show_progress_bars=False)
    started = time.perf_counter()
    estimator = trainer.train_online(simulate, num_simulations, seed=seed)
    ours = time.perf_counter() - started
    torch.manual_seed(seed)
    started = time.perf_counter()
    theta = slcp.prior.sample((num_simulations,))
    x = simulate(theta)
    peer = NRE_A(slcp.prior, tracker=NoTracker(), show_progress_bars=False)
    estimator_of_peer = peer.append_simulations(theta, x).train()
    theirs = time.perf_counter() - started
    simulating = SECONDS_PER_SIMULATION * num_simulations
    print(
        "| | seconds | of these simulating | held-out loss, nats |\n|---|---|---|---|"
    )
    for name, seconds, fitted in (
        ("`AALR.train_online`", ours, estimator),
        ("sbi `NRE_A`", theirs, estimator_of_peer),
    ):
        loss = measure(fitted, slcp.prior, slcp.simulate, 50_000)
        print(f"| {name} | {seconds:.0f} | {simulating:.0f} | {loss:.4f} |")


def simulate_images(theta):
    """A spot of light on noise: its place, width and brightness; `(N, 1, 64, 64)`."""
    noise = NOISE * torch.randn(len(theta), SIDE, SIDE)
    return (draw_spots(theta) + noise).unsqueeze(1)


IMAGE_PRIOR = BoxUniform(
    torch.tensor([-0.8, -0.8, -3.0, 1.0]), torch.tensor([0.8, 0.8, -1.5, 4.0])
)


def images_log_likelihood(theta, x):
    """log p(x|theta) up to a constant, all pairs: `(N, M)`."""
    mean = draw_spots(theta).flatten(1)
    rows = x.flatten(1)
    product = mean @ rows.T - mean.square().sum(dim=1, keepdim=True) / 2
    return product / NOISE**2


def draw_spots(theta):
    place = torch.linspace(-1, 1, SIDE)
    row = (place[None, :, None] - theta[:, 0, None, None]).square()
    column = (place[None, None, :] - theta[:, 1, None, None]).square()
    width = theta[:, 2, None, None].exp()
    return theta[:, 3, None, None] * torch.exp(-(row + column) / (2 * width**2))


@torch.no_grad()
def measure_best_images(rows=200, num_evidence=20_000):
    """Loss of the exact ratio, whose evidence is a mean over prior draws."""
    torch.manual_seed(0)
    theta, theta_prime = IMAGE_PRIOR.sample((rows,)), IMAGE_PRIOR.sample((rows,))
    x = simulate_images(theta)
    evidence = (
        torch.cat(
            [
                images_log_likelihood(part, x).logsumexp(0, keepdim=True)
                for part in IMAGE_PRIOR.sample((num_evidence,)).split(1_000)
            ]
        ).logsumexp(0)
        - torch.tensor(float(num_evidence)).log()
    )
    joint = images_log_likelihood(theta, x).diagonal() - evidence
    marginal = images_log_likelihood(theta_prime, x).diagonal() - evidence
    loss = binary_cross_entropy(joint, marginal)
    return float(loss.mean()), float(loss.std() / rows**0.5)


def build_cnn():
    layers: list[nn.Module] = []
    channels = 1
    for width in (16, 32, 64, 64):
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.SiLU()]
        channels = width
    return nn.Sequential(*layers, nn.Flatten())


def run_images(num_simulations, seed, time_limit):
    network = two_towers(128, 2, embedding_net_x=build_cnn())
    trainer = AALR(IMAGE_PRIOR, network, show_progress_bars=False)
    started = time.perf_counter()
    estimator = trainer.train_online(
        simulate_images, num_simulations, seed=seed, time_limit=time_limit
    )
    seconds = time.perf_counter() - started
    loss = measure(estimator, IMAGE_PRIOR, simulate_images, 5_000)
    best, error = measure_best_images()
    print("| | seconds | held-out loss, nats | best possible |\n|---|---|---|---|")
    print(
        f"| {num_simulations:,} images of 64 × 64 | {seconds:.0f} | {loss:.4f} | "
        f"{best:.4f} ± {error:.4f} |"
    )


RUNS = {"slow": run_slow, "images": run_images}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", choices=RUNS)
    parser.add_argument("--num-simulations", type=int, default=10_000)
    parser.add_argument("--time-limit", type=float)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    RUNS[options.run](options.num_simulations, options.seed, options.time_limit)


if __name__ == "__main__":
    main()
