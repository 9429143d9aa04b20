"""Small runs of everything that draws random numbers, for numbers that must not change.

`python tests/same_numbers/cases.py` prints their numbers as JSON. With `--hash` it
prints a hash of all bits of each instead, which holds on one machine only.
"""

import hashlib
import json
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from sbi.utils import BoxUniform

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.mcmc import KERNELS
from sbi_aalr.simulators import SLCP

_LOW, _HIGH = torch.tensor([-2.0, -2.0, -2.0]), torch.tensor([2.0, 2.0, 2.0])
_PRIOR = BoxUniform(_LOW, _HIGH)
_SHORT = {
    "num_chains": 8,
    "warmup_steps": 40,
    "thin": 2,
    "num_candidates": 500,
    "max_rhat": None,
    "min_ess": None,
    "show_progress_bars": False,
}


def _simulate(theta):
    return torch.cat((theta, theta.square()), 1) + 0.3 * torch.randn(len(theta), 6)


def _make_trainer(classifier="two_towers", **settings):
    return AALR(_PRIOR, classifier, show_progress_bars=False, base=None, **settings)


def _describe_fit(trainer):
    """Losses, and the ratios of pairs that are the same for all."""
    estimator = trainer.build_posterior().potential_fn.ratio_estimator
    generator = torch.Generator().manual_seed(3)
    theta = _LOW + (_HIGH - _LOW) * torch.rand(6, 3, generator=generator)
    x = torch.randn(6, 6, generator=generator)
    with torch.no_grad():
        log_ratio = estimator(theta, x)
    losses = torch.tensor(
        [*trainer.summary["training_loss"], *trainer.summary["validation_loss"]]
    )
    return {"log_ratio": log_ratio, "loss": losses[:: max(1, len(losses) // 10)]}


def _train_streamed(classifier, **settings):
    trainer = _make_trainer(classifier)
    trainer.train_online(_simulate, 3_000, seed=1, **settings)
    return _describe_fit(trainer)


def _train_stored(classifier):
    torch.manual_seed(2)
    theta = _PRIOR.sample((800,))
    # As a trainer once did when it was set up, between these draws.
    _PRIOR.sample((1,))
    trainer = _make_trainer(classifier).append_simulations(theta, _simulate(theta))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train(max_num_epochs=3, seed=1)
    return _describe_fit(trainer)


def _train_truncated():
    trainer = _make_trainer("selu_mlp")
    x_o = torch.tensor([[0.5, -0.5, 1.0, 0.25, 0.25, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train_truncated(_simulate, x_o, 1_200, num_rounds=2, seed=1)
    share = torch.tensor(trainer.summary["accepted_share"])
    return {**_describe_fit(trainer), "accepted_share": share}


def _build_posterior(classifier="selu_mlp"):
    """A posterior that is not a good one: what matters is that it repeats."""
    trainer = _make_trainer(classifier)
    trainer.train_online(_simulate, 2_000, num_passes=1, seed=1)
    return trainer.build_posterior()


def _describe_run(posterior, draws):
    found = posterior.diagnostics()
    return {
        "draws": draws.flatten()[:: max(1, draws.numel() // 12)],
        "mean": draws.flatten(0, -2).mean(0),
        "log_prob": posterior.chains.log_prob.flatten()[:5],
        "r_hat": torch.from_numpy(found["r_hat"].values.flatten()[:3]),
        "ess": torch.from_numpy(found["ess_bulk"].values.flatten()[:3]),
    }


def _draw_observations(count):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, 6, generator=generator)


def _sample(kernel, **settings):
    posterior = _build_posterior()
    x_o = _draw_observations(1)
    draws = posterior.sample((80,), x=x_o, seed=7, kernel=kernel, **_SHORT | settings)
    return _describe_run(posterior, draws)


def _sample_trials():
    posterior = _build_posterior("two_towers")
    draws = posterior.sample((80,), x=_draw_observations(3), seed=7, **_SHORT)
    return _describe_run(posterior, draws)


def _sample_callable():
    def potential(theta, x_o):
        return -(theta - x_o[:, :3]).square().sum(1)

    posterior = MHPosterior(potential, _PRIOR)
    draws = posterior.sample((80,), x=_draw_observations(1), seed=7, **_SHORT)
    return _describe_run(posterior, draws)


def _sample_until_converged():
    posterior = _build_posterior()
    settings = _SHORT | {"max_rhat": 1.2, "min_ess": 50.0, "warmup_steps": 100}
    draws = posterior.sample((80,), x=_draw_observations(1), seed=7, **settings)
    return _describe_run(posterior, draws)


def _sample_batched(num_observations, is_stored):
    posterior = _build_posterior()
    settings = {"x": _draw_observations(num_observations), "seed": 7, **_SHORT}
    with tempfile.TemporaryDirectory() as folder:
        if is_stored:
            settings["out"] = Path(folder) / "chains.nc"
        draws = posterior.sample_batched((40,), **settings)
    return _describe_run(posterior, draws)


def _sample_many_chains():
    posterior = _build_posterior()
    settings = _SHORT | {"num_chains": 160}
    draws = posterior.sample((1_600,), x=_draw_observations(1), seed=7, **settings)
    return _describe_run(posterior, draws)


def _log_prob():
    posterior = _build_posterior().set_default_x(_draw_observations(1))
    theta = torch.tensor([[0.1, 0.2, 0.3], [-1.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    return {
        "log_prob": posterior.log_prob(theta)[:2],
        "normaliser": posterior.normaliser().log_normaliser,
    }


def _simulate_slcp():
    slcp = SLCP()
    generator = torch.Generator().manual_seed(1)
    x = slcp.simulate(slcp.true_parameters[None], generator=generator)
    return {"x": x, "exact": slcp.sample_posterior(50, x, seed=1)[:4]}


CASES = {
    "train_streamed": lambda: _train_streamed("two_towers"),
    "train_streamed_once": lambda: _train_streamed("selu_mlp"),
    "train_streamed_in_passes": lambda: _train_streamed("residual_mlp", num_passes=2),
    "train_stored": lambda: _train_stored("two_towers"),
    "train_stored_in_pairs": lambda: _train_stored("selu_mlp"),
    "train_truncated": _train_truncated,
    **{f"sample_{kernel}": lambda kernel=kernel: _sample(kernel) for kernel in KERNELS},
    "sample_auto": lambda: _sample("auto"),
    "sample_from_proposal": lambda: _sample("jump_walk", init_strategy="proposal"),
    "sample_trials": _sample_trials,
    "sample_callable": _sample_callable,
    "sample_until_converged": _sample_until_converged,
    "sample_batched": lambda: _sample_batched(5, is_stored=False),
    "sample_batched_in_chunks": lambda: _sample_batched(150, is_stored=False),
    "sample_batched_to_store": lambda: _sample_batched(150, is_stored=True),
    "sample_many_chains": _sample_many_chains,
    "log_prob": _log_prob,
    "simulate_slcp": _simulate_slcp,
}


def _hash(numbers):
    digest = hashlib.sha256()
    for name, values in sorted(numbers.items()):
        digest.update(name.encode() + values.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {name: case() for name, case in CASES.items()}
    if "--hash" in sys.argv:
        text = {name: _hash(numbers) for name, numbers in found.items()}
    else:
        text = {
            name: {key: values.flatten().tolist() for key, values in numbers.items()}
            for name, numbers in found.items()
        }
    print(json.dumps(text, indent=1))
