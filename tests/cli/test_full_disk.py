"""A disk that is really full, at random sizes: needs to mount one."""

import os
import random
import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import errno, shutil, sys, warnings
    from pathlib import Path
    import torch
    from linear_gaussian import PRIOR, SHORT, X_O, build_quadratic, simulate
    from sbi_aalr import MHPosterior
    from sbi_aalr.comparison import compare
    from sbi_aalr.sampling import chunks
    warnings.simplefilter("ignore")
    disk, sizes = Path(sys.argv[1]), sys.argv[2].split(",")
    torch.manual_seed(1)
    x = simulate(PRIOR.sample((6,)))
    chunks._CHUNK = 3
    estimator = build_quadratic(PRIOR.sample((10,)), x)
    posterior = MHPosterior.from_estimator(estimator, PRIOR)
    posterior.sample((100,), x=X_O, seed=1, **SHORT)
    jobs = {
        "save": lambda: posterior.save(disk / "saved"),
        "sample": lambda: posterior.sample_batched(
            (100,), x, seed=1, out=disk / "run.nc", **SHORT
        ),
        "zarr": lambda: posterior.sample((100,), x=X_O, seed=1, out=disk / "run.zarr",
            **SHORT),
        "report": lambda: posterior.report(disk / "report.html"),
    }
    for job in sys.argv[3].split(","):
        for size in sizes:
            filler = disk / "filler"
            filler.write_bytes(b"0" * int(size))
            try:
                jobs[job]()
                said = "done"
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
                assert "could not be written: No space left" in str(error), error
                said = "full"
            assert not [path for path in disk.rglob("*") if path.suffix == ".tmp"]
            filler.unlink()
            if said == "full":
                jobs[job]()
            for path in disk.iterdir():
                assert not path.name.endswith(".parts")
            print(job, size, said)
            for path in disk.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
"""


@pytest.fixture
def disk(tmp_path):
    """A disk of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["save", "sample,zarr", "report"])
def test_full_disk_is_said_and_what_is_done_goes_on(disk, jobs):
    rng, number = random.Random(1), 20
    sizes = [2**21 - 2 ** rng.randrange(12, 18) for _ in range(number)]
    paths = [os.path.dirname(os.path.dirname(__file__)), *sys.path]
    done = subprocess.run(
        [
            *(sys.executable, "-c", textwrap.dedent(SCRIPT), str(disk)),
            *(",".join(map(str, sizes)), jobs),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == number * len(jobs.split(","))
    assert sum(line.endswith("full") for line in lines) >= 3
