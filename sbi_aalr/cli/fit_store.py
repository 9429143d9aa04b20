"""The store and the prior that `sbi-aalr fit` is about, and what it streams."""

from pathlib import Path

from torch.distributions import Distribution

from sbi_aalr.cli.named_simulator import import_prior
from sbi_aalr.persistence.prior_json import decode_prior, encode_prior, is_same_prior
from sbi_aalr.simulation import SimulationStore


def open_store(path: Path) -> SimulationStore:
    """Open a store that is there already.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no store, or damaged.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"`store` must be a store of simulations, but there is no {path}. Fill one "
            "with `sbi-aalr simulate`."
        )
    return SimulationStore(path)


def begin_store(path: Path, prior: str | None) -> SimulationStore:
    """Open the store that streamed simulations go to; a new one holds its prior.

    Args:
        path: Where it is, or is to be.
        prior: The prior as `module:name`, which a new store needs.

    Raises:
        OSError: If it cannot be written to.
        ValueError: If it is something else, or there is no prior.
    """
    is_new = not path.exists()
    if is_new and prior is None:
        raise ValueError(
            "`prior` must be given with a simulator: `--prior module:name`."
        )
    store = SimulationStore(path)
    if is_new and prior is not None:
        described = encode_prior(import_prior(prior))
        if described is not None:
            store.note(prior=described)
    return store


def find_prior(store: SimulationStore, name: str | None) -> Distribution:
    """The prior that a store was filled with.

    Args:
        store: The store, which describes the prior if JSON can.
        name: The prior as `module:name`, where it was given.

    Raises:
        ImportError: If it cannot be imported.
        ValueError: If there is none, or another one in the store.
    """
    described = store.describe()["prior"]
    is_known = isinstance(described, dict)
    if name is not None:
        given = import_prior(name)
        if is_known and not is_same_prior(described, given):
            raise ValueError(
                f"`prior` must be the one that filled {store.path}, got another "
                f"{type(given).__name__}. Leave it out."
            )
        return given
    if not is_known:
        raise ValueError(
            f"{store.path} does not hold its prior. Give the one that it was filled "
            "with: `--prior module:name`."
        )
    return decode_prior(described)
