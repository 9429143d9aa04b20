"""One run of a posterior, kept on disk as it goes on where the user wants that."""

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sbi_aalr.checks import check_bool, check_executor, check_seed
from sbi_aalr.persistence.finished_chunks import (
    ChunkFiles,
    hold_folder,
    identify,
    mark_finished,
    read_identity,
    remove_chunks,
)
from sbi_aalr.persistence.run_store import (
    check_store,
    locate_parts,
    write_run,
)
from sbi_aalr.sampling.plan import Plan
from sbi_aalr.sampling.run import Run
from sbi_aalr.sampling.sample import sample
from sbi_aalr.sampling.target import Target


def sample_run(
    target: Target,
    x: Tensor,
    plan: Plan,
    *,
    batched: bool,
    seed: int | None,
    show_progress_bars: bool,
    out: str | Path | None = None,
    executor: Executor | None = None,
    parameter_names: Sequence[str] | None = None,
) -> Run:
    """Run the chains of all observations, and write the run if it has a place to go.

    Args:
        target: What to sample.
        x: Observations with their trials, shape `(B, T, *event_shape)`.
        plan: Kernel, lengths and limits.
        batched: Whether the observations are a batch of the user's.
        seed: Makes the run repeatable; by default torch's global generator does, or
            what `out` was begun with.
        show_progress_bars: Whether to show progress.
        out: Store to write; chunks that are done are kept beside it until then.
        executor: Whose workers sample; None for this process.
        parameter_names: One name a parameter.

    Returns:
        The run.
    """
    if seed is not None:
        seed = check_seed("seed", seed)
    options: dict[str, Any] = {
        "batched": batched,
        "show_progress_bars": check_bool("show_progress_bars", show_progress_bars),
        "parameter_names": parameter_names,
        "executor": check_executor(executor),
    }
    if out is None:
        return sample(target, x, plan, seed=_draw_seed(seed), **options)
    store = check_store(out)
    parts = locate_parts(store)
    with hold_folder(parts):
        # Again, as another process may have written it until now.
        check_store(out)
        if seed is None:
            seed = read_identity(parts).get("seed")
        seed = _draw_seed(seed)
        identity = {
            "num_draws": plan.num_draws,
            "seed": seed,
            **identify(target, x, plan.settings),
        }
        try:
            finished = ChunkFiles(parts, identity)
            run = sample(target, x, plan, seed=seed, finished=finished, **options)
            mark_finished(parts)
            write_run(store, run)
        except OSError as error:
            message = f"{error.strerror or error} What is done is kept in {parts}, and "
            message += "the same call goes on from there."
            raise OSError(error.errno or 0, message) from error
        remove_chunks(parts)
    return run


def _draw_seed(seed: int | None) -> int:
    return int(torch.randint(2**31, ())) if seed is None else seed
