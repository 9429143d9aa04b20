"""Annealing carries a population from the prior to the posterior."""

import torch

from sbi_aalr.mcmc import starts, tempering
from sbi_aalr.mcmc.weights import effective_size

CENTRES = torch.tensor([[-2.0, -2.0], [2.0, 2.0]])
WIDTH = 0.05
SHARES = torch.tensor([0.25, 0.75])


def log_base(position):
    """Uniform on a box of side 8."""
    inside = (position.abs() <= 4).all(dim=-1)
    return torch.where(inside, 0.0, -torch.inf)


def log_two_modes(position):
    """Two narrow modes with shares 1/4 and 3/4, in the box."""
    distance = (position.unsqueeze(-2) - CENTRES).square().sum(-1)
    log_prob = (SHARES.log() - distance / (2 * WIDTH**2)).logsumexp(-1)
    return log_prob + log_base(position)


def run_annealing(seed, num_chains=400, max_steps=300, log_prob=log_two_modes):
    generator = torch.Generator().manual_seed(seed)
    candidates = 8 * torch.rand(5_000, 2, generator=generator) - 4
    log_weight = log_prob(candidates.unsqueeze(1)) - log_base(candidates).unsqueeze(1)
    inverse_temperature = starts.choose_inverse_temperature(log_weight, num_chains)
    positions = starts.resample_candidates(
        generator, candidates, log_weight, inverse_temperature, num_chains
    )
    count = [0]
    annealed = tempering.anneal(
        generator,
        positions,
        inverse_temperature,
        log_prob,
        log_base,
        max_steps=max_steps,
        on_step=lambda steps: count.__setitem__(0, count[0] + steps),
    )
    return positions, annealed.position, inverse_temperature, count[0]


def find_share(position):
    return float((position.sum(dim=-1) > 0).float().mean())


def test_anneal_reaches_both_modes_in_their_shares():
    shares, spreads = [], []
    for seed in range(10):
        _, annealed, _, _ = run_annealing(seed)
        shares.append(find_share(annealed))
        right = annealed[:, 0][annealed[:, 0].sum(-1) > 0]
        spreads.append(float((right - CENTRES[1]).square().mean().sqrt()))
    shares = torch.tensor(shares)
    # The population is finite and was resampled: its spread over seeds is the error.
    assert abs(shares.mean() - 0.75) < 5 * shares.std() / len(shares) ** 0.5
    assert shares.std() < 0.1
    assert abs(sum(spreads) / 10 - WIDTH) < 0.2 * WIDTH


def test_without_resampling_the_shares_come_out_wrong(monkeypatch):
    monkeypatch.setattr(
        tempering,
        "resample_chains",
        lambda generator, log_weight: (
            torch.arange(len(log_weight)).unsqueeze(1).expand_as(log_weight)
        ),
    )
    shares = torch.tensor([find_share(run_annealing(seed)[1]) for seed in range(10)])
    assert abs(shares.mean() - 0.75) > 5 * shares.std() / len(shares) ** 0.5


def test_starts_alone_are_far_wider_than_the_modes():
    positions, annealed, inverse_temperature, _ = run_annealing(seed=0)
    assert inverse_temperature.item() < 0.5
    before, after = (
        float((theta.abs() - 2).square().mean().sqrt())
        for theta in (positions, annealed)
    )
    assert before > 3 * after


def test_anneal_does_nothing_where_the_temperature_is_one():
    positions, annealed, inverse_temperature, steps = run_annealing(
        seed=0, log_prob=lambda position: log_base(position)
    )
    assert inverse_temperature.item() == 1.0
    assert steps == 0
    assert torch.equal(positions, annealed)


def test_anneal_keeps_to_its_steps_and_still_arrives():
    _, annealed, _, steps = run_annealing(seed=0, max_steps=10)
    assert steps == 10
    assert torch.isfinite(log_two_modes(annealed)).all()
    _, annealed, _, steps = run_annealing(seed=0, max_steps=5)
    assert steps == 0


def test_observations_anneal_at_their_own_pace():
    generator = torch.Generator().manual_seed(3)
    widths = torch.tensor([1.0, 0.01])

    def log_prob(position):
        return -position.square().sum(-1) / (2 * widths**2) + log_base(position)

    candidates = 8 * torch.rand(5_000, 2, generator=generator) - 4
    log_weight = log_prob(candidates.unsqueeze(1).expand(-1, 2, -1))
    inverse_temperature = starts.choose_inverse_temperature(log_weight, 200)
    assert inverse_temperature[0] == 1.0
    assert inverse_temperature[1] < 0.1
    positions = starts.resample_candidates(
        generator, candidates, log_weight, inverse_temperature, 200
    )
    annealed = tempering.anneal(
        generator, positions, inverse_temperature, log_prob, log_base, max_steps=300
    )
    ratio = annealed.position.square().mean(dim=(0, 2)).sqrt() / widths
    assert ((ratio - 1).abs() < 0.2).all()


def test_raise_inverse_temperature_keeps_half_of_the_chains():
    generator = torch.Generator().manual_seed(0)
    log_ratio = 50 * torch.randn(1_000, 3, generator=generator)
    inverse_temperature = torch.tensor([0.0, 0.2, 1.0])
    risen = tempering.raise_inverse_temperature(log_ratio, inverse_temperature)
    size = effective_size((risen - inverse_temperature) * log_ratio)
    torch.testing.assert_close(size[:2], torch.full((2,), 500.0), rtol=0.01, atol=0)
    assert (risen >= inverse_temperature).all()
    assert risen[2] == 1.0


def test_resample_follows_the_weights():
    generator = torch.Generator().manual_seed(0)
    weight = torch.tensor([0.5, 0.25, 0.25, 0.0]).repeat(25)
    chosen = tempering.resample_chains(
        generator, weight.log().clamp(min=-1e30).unsqueeze(1)
    )
    counts = torch.bincount(chosen[:, 0] % 4, minlength=4)
    assert counts[3] == 0
    torch.testing.assert_close(
        counts[:3].float(), torch.tensor([50.0, 25.0, 25.0]), atol=1.0, rtol=0
    )
