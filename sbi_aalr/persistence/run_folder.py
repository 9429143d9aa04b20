"""The files of a run's folder: every name, once, and what is in it."""

import shlex
from pathlib import Path

POSTERIOR_WEIGHTS = "posterior.safetensors"
POSTERIOR_SETTINGS = "posterior.json"
TRAINING = "training.json"
CHAINS = "chains.nc"
CORNER = "corner.png"
TRACE_RANK = "trace_rank.png"
REPORT = "report.html"
CHECKPOINT = "checkpoint.safetensors"
TRAINER = "trainer.json"

CONTENT = {
    POSTERIOR_WEIGHTS: "the fitted estimator: weights and observation",
    POSTERIOR_SETTINGS: "the fitted estimator: prior and settings",
    TRAINING: "what was fitted, and its loss",
    CHAINS: "the chains as an ArviZ DataTree",
    CORNER: "corner plot over the exact posterior",
    TRACE_RANK: "traces and ranks of the chains",
    REPORT: "one page that says whether to trust the run",
}


def find_chains(folder: Path, chains: str | Path | None = None) -> Path:
    """Return the file of chains that is meant.

    Args:
        folder: Folder of the run.
        chains: A file of chains; by default `chains.nc` in the folder, or the only
            NetCDF file that is there.

    Raises:
        FileNotFoundError: If there is none, or there are several to choose from.
    """
    if chains is not None:
        path = Path(chains)
        if not path.is_file():
            raise FileNotFoundError(f"`chains` must be a NetCDF file, got {path}.")
        return path
    if (folder / CHAINS).is_file():
        return folder / CHAINS
    found = sorted(folder.glob("*.nc"))
    if len(found) != 1:
        wanted = shlex.quote(str(folder / CHAINS))
        names = ", ".join(path.name for path in found) or "none"
        raise FileNotFoundError(
            f"`folder` must hold {CHAINS} or one other NetCDF file, but {folder} has "
            f"{names}. Sample with `sbi-aalr sample --out {wanted}`, or "
            "choose one with `--chains`."
        )
    return found[0]
