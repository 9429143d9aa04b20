"""Keep what is done of a long run on disk, so that a killed run goes on from there.

Chunks of observations are kept as safetensors beside the file that the run will write
in the end, each of which appears whole or not at all. A file `run.json` says which run
they belong to.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sbi_aalr._version import __version__
from sbi_aalr.files import write_json, write_tensors
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.convergence import Convergence
from sbi_aalr.sampling.settings import Settings
from sbi_aalr.sampling.target import RatioTarget, Target
from sbi_aalr.sampling.until_converged import Result

_RUN = "run.json"
# What the groups of tensors are called in a file.
_WARMUP, _CHAINS, _CONVERGENCE = "warmup", "chains", "figures"


class ChunkFiles:
    """Finished chunks of one run, in a folder.

    Args:
        folder: Where to; made if needed.
        run: What identifies the run, in a form that JSON holds.

    Raises:
        ValueError: If the folder holds chunks of another run.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / _RUN
        if not path.is_file():
            write_json(path, run)
            return
        earlier = read_identity(folder)
        for name, value in json.loads(json.dumps(run)).items():
            if earlier.get(name) != value:
                raise ValueError(
                    f"`out` must be continued by the run that began it, but `{name}` "
                    f"was {earlier.get(name)!r} and is {value!r}. Choose another name, "
                    f"or delete {folder} to begin anew."
                )

    def read(self, number: int, device: torch.device) -> Result | None:
        """Return a chunk that is done, or None.

        Raises:
            ValueError: If its file is damaged.
        """
        path = self._locate(number)
        if not path.is_file():
            return None
        try:
            tensors = load_file(path, device=str(device))
            return Result(
                Chains(**_collect(_WARMUP, tensors)),
                Chains(**_collect(_CHAINS, tensors)),
                Convergence(**_collect(_CONVERGENCE, tensors)),
            )
        except Exception as error:
            raise ValueError(
                f"{path} is damaged: {error}. Delete it, and its observations are "
                "sampled again."
            ) from error

    def write(self, number: int, result: Result) -> None:
        """Keep a chunk that is done."""
        groups: dict[str, dict[str, Tensor]] = {
            _WARMUP: vars(result.warmup),
            _CHAINS: vars(result.chains),
            _CONVERGENCE: result.convergence._asdict(),
        }
        tensors = {
            f"{group}.{name}": tensor
            for group, fields in groups.items()
            for name, tensor in fields.items()
        }
        write_tensors(self._locate(number), tensors)

    def _locate(self, number: int) -> Path:
        return self._folder / f"{number:06d}.safetensors"


def identify(target: Target, x: Tensor, settings: Settings) -> dict[str, Any]:
    """What tells one run from another: data, network and settings.

    Args:
        target: What is sampled.
        x: The observations.
        settings: How.

    Returns:
        Names and values that JSON can hold.
    """
    chosen = settings.to_dict()
    if not isinstance(chosen["kernel"], str):
        chosen["kernel"] = "custom"
    weights = target.estimator.state_dict() if isinstance(target, RatioTarget) else {}
    return {
        "sbi_aalr": __version__,
        "x": _hash([x]),
        "potential": target.name,
        "estimator": _hash([weights[name] for name in sorted(weights)]),
        **chosen,
    }


def read_identity(folder: Path) -> dict[str, Any]:
    """Return what identifies the run whose chunks are in a folder; nothing if none.

    Raises:
        ValueError: If the file that says so is damaged.
    """
    path = folder / _RUN
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged: {error}. Delete {folder} to begin anew."
        ) from error


def _collect(group: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{group}."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _hash(tensors: list[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
