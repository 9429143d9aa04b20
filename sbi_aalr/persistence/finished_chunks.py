"""Keep what is done of a long run on disk, so that a killed run goes on from there.

Chunks of observations are kept as safetensors in a folder beside the file that the run
will write in the end, each of which appears whole or not at all. A file `run.json` says
which run they belong to, and each chunk names that run, its own number and a hash of
what it holds. One process at a time has the folder; a lock, which ends with the
process, sees to that.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbi_aalr._version import __version__
from sbi_aalr.files import (
    hash_document,
    hash_tensors,
    lock,
    read_headed_tensors,
    read_sealed,
    remove_leftovers,
    write_sealed,
    write_tensors,
    write_text,
)
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.convergence import Convergence
from sbi_aalr.sampling.settings import Settings
from sbi_aalr.sampling.target import RatioTarget, Target
from sbi_aalr.sampling.until_converged import Result
from sbi_aalr.seeding import seeded
from sbi_aalr.training.parcel import select

_FORMAT = 3
_RUN = "run.json"
_LOCK = "lock"
# Says that all chunks are there, and that the file of the run is being written.
_FINISHED = "finished"
_CHUNKS = "[0-9]" * 6 + ".safetensors"
# What the groups of tensors are called in a file.
_WARMUP, _CHAINS, _CONVERGENCE = "warmup", "chains", "figures"
_STARTS = "starts"
_NUM_PROBES = 16
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Have a folder of chunks to oneself; made if needed, and gone if no chunk is left.

    Args:
        folder: The folder.

    Raises:
        BlockingIOError: If another process has it.
        ValueError: If it is a link, or holds what belongs to no run.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"`out` must keep what is done in {folder}, but that is a file. Choose "
            "another name, or move it away."
        )
    if folder.is_symlink():
        raise ValueError(f"`out` must not go on through a link, but {folder} is one.")
    handle = _lock(folder)
    try:
        remove_leftovers(folder)
        _check_content(folder)
        yield
    finally:
        if not any(folder.glob(_CHUNKS)):
            remove_chunks(folder)
        # Removed while it is locked: who opened it meanwhile sees that it is gone.
        (folder / _LOCK).unlink(missing_ok=True)
        os.close(handle)
        with contextlib.suppress(OSError):
            folder.rmdir()


class ChunkFiles:
    """Finished chunks of one run, in a folder.

    Args:
        folder: Where to; there already.
        run: What identifies the run, in a form that JSON holds.

    Raises:
        ValueError: If the folder holds chunks of another run.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self._folder = folder
        if not any(folder.glob(_CHUNKS)):
            (folder / _FINISHED).unlink(missing_ok=True)
            write_sealed(folder / _RUN, run)
        found = read_identity(folder)
        for name, value in run.items():
            if not _is_same(found.get(name), value):
                raise ValueError(
                    f"`out` must be continued by the run that began it, but `{name}` "
                    f"was {found.get(name)!r} and is {value!r}. Choose another name, "
                    f"or delete {folder} to begin anew."
                )
        # Of what was found, lest a damaged file pass for another run's.
        self._run = hash_document(found)

    def read(self, number: int, device: torch.device) -> Result | None:
        """Return a chunk that is done, or None.

        Raises:
            ValueError: If its file is damaged, or of another run.
        """
        path = self._locate(number)
        if not path.is_file():
            return None
        try:
            tensors, head = read_headed_tensors(path)
            if head.get("sha256") != self._hash(number, tensors):
                raise ValueError(
                    f"{path} is damaged: it does not hold what this run wrote there."
                )
            tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
            return Result(
                Chains(**select(f"{_WARMUP}.", tensors)),
                Chains(**select(f"{_CHAINS}.", tensors)),
                Convergence(**select(f"{_CONVERGENCE}.", tensors)),
                **select(f"{_STARTS}.", tensors),
            )
        except ValueError as error:
            raise ValueError(
                f"{error} Delete it, and its observations are sampled again."
            ) from error

    def write(self, number: int, result: Result) -> None:
        """Keep a chunk that is done."""
        groups: dict[str, dict[str, Tensor]] = {
            _WARMUP: vars(result.warmup),
            _CHAINS: vars(result.chains),
            _CONVERGENCE: result.convergence._asdict(),
        }
        if result.ancestor_share is not None:
            groups[_STARTS] = {"ancestor_share": result.ancestor_share}
        tensors = {
            f"{group}.{name}": tensor
            for group, fields in groups.items()
            for name, tensor in fields.items()
        }
        metadata = {"sha256": self._hash(number, tensors)}
        write_tensors(self._locate(number), tensors, metadata)

    def _hash(self, number: int, tensors: Mapping[str, Tensor]) -> str:
        return hash_tensors(tensors, self._run, str(number))

    def _locate(self, number: int) -> Path:
        return self._folder / f"{number:06d}.safetensors"


def mark_finished(folder: Path) -> None:
    """Say that all chunks are there, and that the file of the run is being written."""
    write_text(folder / _FINISHED, "")


def remove_chunks(folder: Path) -> None:
    """Remove chunks that are no longer needed, and last what says whose they are."""
    for path in folder.glob(_CHUNKS):
        path.unlink()
    for name in (_RUN, _FINISHED):
        (folder / name).unlink(missing_ok=True)


def remove_if_finished(folder: Path) -> None:
    """Remove what a run that was killed left after its file was written."""
    if folder.is_dir():
        # Whoever else has it removes it, and what is not ours stays.
        with contextlib.suppress(BlockingIOError, ValueError), hold_folder(folder):
            if (folder / _FINISHED).is_file():
                remove_chunks(folder)


def identify(target: Target, x: Tensor, settings: Settings) -> dict[str, Any]:
    """What tells one run from another: data, posterior and settings.

    Args:
        target: What is sampled.
        x: The observations, shape `(B, T, *event_shape)`.
        settings: How.

    Returns:
        Names and values that JSON can hold. `log_prob` are values of the posterior of
        the first observation, which tell priors and potentials apart.
    """
    chosen = settings.to_dict()
    if not isinstance(chosen["kernel"], str):
        chosen["kernel"] = "custom"
    weights = target.estimator.state_dict() if isinstance(target, RatioTarget) else {}
    with seeded(0), torch.no_grad():
        # Of a shape of two dimensions sbi's `MultipleIndependent` keeps the first.
        probes = target.proposal.sample((_NUM_PROBES,)).unsqueeze(1)
        log_prob = target.log_prob_fn(x[:1])(probes)
    return {
        "format": _FORMAT,
        "sbi_aalr": __version__,
        "x": hash_tensors({"x": x}),
        "potential": target.name,
        "estimator": hash_tensors(weights),
        "device": x.device.type,
        **chosen,
        "log_prob": log_prob.flatten().tolist(),
    }


def read_identity(folder: Path) -> dict[str, Any]:
    """Return what identifies the run whose chunks are in a folder; nothing if none.

    Raises:
        ValueError: If the file that says so is damaged, or of an earlier version.
    """
    path = folder / _RUN
    if not path.is_file():
        return {}
    remedy = f"Delete {folder} to begin anew."
    try:
        found = read_sealed(path, must_be_finite=False)
    except ValueError as error:
        raise ValueError(f"{error} {remedy}") from error
    if found.get("format") != _FORMAT:
        raise ValueError(
            f"{folder} must hold chunks of format {_FORMAT}, got those of sbi_aalr "
            f"{found.get('sbi_aalr')} in format {found.get('format')!r}. {remedy}"
        )
    return found


def _lock(folder: Path) -> int:
    """Lock a folder by a file in it, and return that file's handle."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            flags = os.O_RDWR | os.O_CREAT | _NO_FOLLOW
            handle = os.open(folder / _LOCK, flags, 0o666)
        except FileNotFoundError:
            # Removed meanwhile by one who has finished.
            continue
        try:
            lock(handle)
        except BlockingIOError as error:
            os.close(handle)
            raise BlockingIOError(
                f"`out` must be written by one process at a time, but another is at "
                f"work in {folder}. Wait until it has finished, or choose another name."
            ) from error
        if os.fstat(handle).st_nlink:
            return handle
        os.close(handle)


def _check_content(folder: Path) -> None:
    """Raise if a folder holds what no run of this package left there."""
    names = {path.name for path in folder.iterdir()} - {_LOCK, _FINISHED}
    if names and _RUN not in names:
        raise ValueError(
            f"`out` must not be continued from {folder}, where {min(names)} belongs to "
            "no run. Choose another name, or delete the folder to begin anew."
        )


def _is_same(found: Any, value: Any) -> bool:
    if isinstance(found, list) and isinstance(value, list):
        # Log-densities: sums depend a little on the number of threads.
        return len(found) == len(value) and np.allclose(
            found, value, rtol=1e-3, atol=1e-3, equal_nan=True
        )
    return bool(found == value)
