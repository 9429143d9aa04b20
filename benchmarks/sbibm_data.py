"""What sbibm 1.1.0 publishes: observations, reference draws, and how others scored.

    from sbibm_data import load_observation, make_task, published, score

pip fetches its wheel into a cache outside of this repository, once. Only its tables are
read; nothing of it is imported or run. Observations with even numbers are to report on,
and not to be looked at for anything else. Those with odd numbers are left alone.

References:
    Lueckmann et al. (2021), arXiv:2101.04653.
"""

import bz2
import csv
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sbi_aalr.comparison import TASKS, two_sample_scores
from sbi_aalr.comparison.tasks import Task

VERSION = "1.1.0"
WHEEL = f"sbibm-{VERSION}-py2.py3-none-any.whl"
SHA256 = "12ecc6b4d327b92f9225f08faa6405e4274fb8e75943d86a53157d1b1bcfaf74"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sbi_aalr"

TASK_NAMES = tuple(
    name for name in TASKS if name not in {"mg1", "lotka_volterra_jumps"}
)
BUDGETS = (1_000, 10_000, 100_000)
REPORTED = (2, 4, 6, 8, 10)
AMORTIZED = ("NPE", "NLE", "NRE")
# Means over the reported observations, of the results that the authors publish.
PUBLISHED = Path(__file__).parent / "comparison" / "sbibm_published.csv"

# Tasks that share the folder of another, and their files of observations.
_FOLDERS = {"slcp_distractors": "slcp", "bernoulli_glm_raw": "bernoulli_glm"}
_FILES = {
    "slcp_distractors": "observation_distractors.csv",
    "bernoulli_glm_raw": "observation_raw.csv",
}


class Published(NamedTuple):
    """An observation with its answer.

    Attributes:
        x_o: The data, shape `(1, E)`.
        theta: The true parameters, shape `(D,)`.
        reference: Draws from the posterior, shape `(10000, D)`.
    """

    x_o: Tensor
    theta: Tensor
    reference: Tensor


def make_task(name: str) -> Task:
    """Return the simulator of this package with sbibm's settings."""
    check_task(name)
    return TASKS[name]()


def load_observation(task: str, number: int, cache: Path = CACHE) -> Published:
    """Read a reported observation, its true parameters and its reference draws.

    Args:
        task: sbibm's name of the task.
        number: 2, 4, 6, 8 or 10.
        cache: Folder that the wheel is kept in.

    Raises:
        ValueError: If there is no such task, or the observation is not to be used.
    """
    check_task(task)
    if number not in REPORTED:
        raise ValueError(f"`number` must be one of {REPORTED}, got {number!r}.")
    folder = f"sbibm/tasks/{_FOLDERS.get(task, task)}/files/num_observation_{number}"
    with zipfile.ZipFile(fetch_wheel(cache)) as wheel:
        x_o = _read_rows(wheel.read(f"{folder}/{_FILES.get(task, 'observation.csv')}"))
        theta = _read_rows(wheel.read(f"{folder}/true_parameters.csv"))
        packed = wheel.read(f"{folder}/reference_posterior_samples.csv.bz2")
    return Published(x_o, theta[0], _read_rows(bz2.decompress(packed)))


def fetch_wheel(cache: Path = CACHE) -> Path:
    """Return the path of sbibm's wheel, which pip fetches the first time.

    Raises:
        ValueError: If the file is not the one that was published.
    """
    path = cache / WHEEL
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, f"sbibm=={VERSION}", "-d", str(cache)], check=True)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{path} must have the hash {SHA256}, got {found}. Delete it.")
    return path


def published(
    task: str,
    budget: int,
    path: Path = PUBLISHED,
    observations: tuple[int, ...] = REPORTED,
) -> dict[str, float]:
    """Read what others scored: method -> mean C2ST over observations.

    Args:
        task: sbibm's name of the task.
        budget: Number of simulations.
        path: Table with columns task, budget, method and c2st, and observation where it
            has a row for each.
        observations: Those that the mean goes over, where it has.

    Returns:
        Means of NPE, NLE, NRE, SNPE, SNLE and SNRE; nothing for a cell that the table
        does not have.
    """
    scores: dict[str, list[float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            is_cell = row["task"] == task and int(row["budget"]) == budget
            if is_cell and int(row.get("observation") or 0) in {0, *observations}:
                scores.setdefault(row["method"], []).append(float(row["c2st"]))
    return {method: mean(values) for method, values in scores.items()}


def score(draws: Tensor, reference: Tensor) -> float:
    """C2ST of draws, by the classifier of the comparison; 0.5 is the best possible."""
    return two_sample_scores(draws, reference).c2st


def check_task(name: str) -> None:
    """Raise unless it is a task of sbibm."""
    if name not in TASK_NAMES:
        raise ValueError(
            f"`task` must be one of {', '.join(TASK_NAMES)}, got {name!r}."
        )


def _read_rows(content: bytes) -> Tensor:
    rows = np.loadtxt(io.BytesIO(content), delimiter=",", skiprows=1, ndmin=2)
    return torch.from_numpy(rows).float()
