"""Sample chunks on the workers of an executor, some of which may be lost."""

import pickle
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor, Future

import cloudpickle
from torch import Tensor

from sbi_aalr.pools import NOT_LOSSES, Pool
from sbi_aalr.sampling.chunk import FinishedChunks, Job
from sbi_aalr.sampling.precision import exact_products
from sbi_aalr.sampling.progress import Progress, count_finished
from sbi_aalr.sampling.until_converged import Result

# How often a chunk may lose its worker while no other is done.
_MOST_LOSSES = 3
_LOST = (
    "Chunk {}, of {} observations, lost its worker {} times: the ratio may end the "
    "process, or need more memory than there is. With `out`, chunks that are done are "
    "kept, and the same call goes on with the others."
)


def sample_elsewhere(
    executor: Executor,
    job: Job,
    chunks: Sequence[Tensor],
    finished: FinishedChunks | None,
    bar: Progress,
) -> list[Result]:
    """Sample chunks on an executor; each is kept as soon as it comes.

    One whose worker was lost is sampled again, which gives the same draws.
    """
    payload, pool = cloudpickle.dumps(job), Pool(executor)
    results: dict[int, Result] = {}
    num_losses: Counter[int] = Counter()
    running: dict[Future[Result | Exception], tuple[int, int]] = {}

    def hand_out(number: int) -> None:
        future, generation = pool.submit(_sample_there, payload, number, chunks[number])
        running[future] = number, generation

    try:
        for number, x in enumerate(chunks):
            known = None if finished is None else finished.read(number, x.device)
            if known is None:
                hand_out(number)
                continue
            results[number] = known
            count_finished(bar, known.convergence)
        while running:
            for future in pool.wait(running):
                number, generation = running.pop(future)
                try:
                    result = future.result()
                except NOT_LOSSES:
                    raise
                # What an executor raises for a lost worker has no common class.
                except Exception as error:
                    num_losses[number] += 1
                    if num_losses[number] > _MOST_LOSSES:
                        error.add_note(
                            _LOST.format(
                                number, len(chunks[number]), num_losses[number]
                            )
                        )
                        raise
                    pool.renew(generation)
                    hand_out(number)
                    continue
                if isinstance(result, Exception):
                    raise result
                results[number] = result
                # A lost process breaks its pool: it counts against all that are out.
                num_losses.clear()
                count_finished(bar, result.convergence)
                if finished is not None:
                    finished.write(number, result)
    finally:
        for future in running:
            future.cancel()
        pool.close()
    return [results[number] for number in range(len(chunks))]


def _make_portable(error: Exception) -> Exception:
    """The same error, or one that says the same where it could not be sent back."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"On a worker:\n{traceback.format_exc()}")
    return error


def _sample_there(payload: bytes, number: int, x: Tensor) -> Result | Exception:
    """Sample a chunk; an error of its own is returned, unlike one of its worker."""
    try:
        job: Job = cloudpickle.loads(payload)
        with exact_products(x.device), Progress(len(x), False) as bar:
            return job.sample(number, x, bar)
    except NOT_LOSSES:
        raise
    except Exception as error:
        return _make_portable(error)
