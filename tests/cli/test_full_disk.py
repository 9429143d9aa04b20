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
def disk(tmp_path, request):
    """A disk of 2 MiB, or of as many as the test is given."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={getattr(request, 'param', 2)}m"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


NUMBER = 20


def run_script(script, *arguments):
    """Lines that a script prints; it must end well."""
    paths = [os.path.dirname(os.path.dirname(__file__)), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["save", "sample,zarr", "report"])
def test_full_disk_is_said_and_what_is_done_goes_on(disk, jobs):
    rng = random.Random(1)
    sizes = [2**21 - 2 ** rng.randrange(12, 18) for _ in range(NUMBER)]
    lines = run_script(SCRIPT, disk, ",".join(map(str, sizes)), jobs)
    assert len(lines) == NUMBER * len(jobs.split(","))
    assert sum(line.endswith("full") for line in lines) >= 3


# What a demo and a report on it write, over one that is there; what costs time besides
# is left out.
OVER = """
    import errno, shutil, sys, warnings
    from pathlib import Path
    import torch
    from matplotlib.figure import Figure
    from linear_gaussian import SHORT
    from sbi_aalr import AALR, MHPosterior
    from sbi_aalr.cli import demo_run
    from sbi_aalr.cli import report_folder as reporting
    from sbi_aalr.persistence.run_store import read_run
    from sbi_aalr.persistence.training_json import read_training
    from sbi_aalr.posterior.parameters import MHPosteriorParameters
    from sbi_aalr.report.page import is_report
    warnings.simplefilter("ignore")
    disk, sizes, job = Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3]

    def draw(*_, **__):
        # As large as a figure, and not like another.
        figure = Figure()
        figure.add_axes((0, 0, 1, 1)).imshow(torch.rand(300, 300))
        return figure

    demo_run.plot_corner = demo_run.plot_trace_rank = draw
    reporting.find_known = lambda name: None
    demo_run.AALR = lambda *args, **kw: AALR(*args, base=None, **kw)
    options = {"num_samples": 100, "num_simulations": 300, "time_limit": 60}
    options["show_progress_bars"] = False

    def demo(seed):
        demo_run.run_demo(disk / "run", seed=seed, **options)

    def report(seed):
        reporting.report_folder(
            disk / "run", disk / "run" / "report.html", title=f"Report {seed}"
        )

    def read(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def check_one_demo(folder, seed):
        # Nothing torn, and nothing of two runs.
        assert read_training(folder)["seed"] == seed
        posterior = MHPosterior.load(folder)
        assert posterior.default_x is not None
        if (folder / "chains.nc").exists():
            run = read_run(folder / "chains.nc", posterior.target)
            assert torch.equal(run.observed.flatten(), posterior.default_x.flatten())

    jobs = {"demo": demo, "report": report}
    demo(1)
    (disk / "run" / "notes.txt").write_text("mine")
    for number, size in enumerate(sizes, start=2):
        before = read(disk / "run")
        seed = read_training(disk / "run")["seed"]
        free = shutil.disk_usage(disk).free
        (disk / "filler").write_bytes(b"0" * max(0, free - int(size)))
        try:
            jobs[job](number)
            said = "done"
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            assert "could not be written: No space left" in str(error), error
            said = "full"
        after = read(disk / "run")
        assert not [name for name in after if name.endswith(".tmp")], list(after)
        assert after["notes.txt"] == b"mine"
        if said == "full" and after != before:
            assert job == "demo"
            said = "begun"
        new = number if job == "demo" else seed
        check_one_demo(disk / "run", seed if after == before else new)
        (disk / "filler").unlink()
        if said != "done":
            jobs[job](number)
            check_one_demo(disk / "run", new)
        print(job, size, said)
"""


@pytest.mark.slow
@pytest.mark.parametrize("disk", [16], indirect=True)
@pytest.mark.parametrize("job", ["demo", "report"])
def test_full_disk_leaves_the_earlier_demo_or_the_new_one(disk, job):
    rng = random.Random(2)
    sizes = [int(2 ** rng.uniform(12, 21)) for _ in range(NUMBER)]
    lines = run_script(OVER, disk, ",".join(map(str, sizes)), job)
    assert len(lines) == NUMBER
    assert sum(not line.endswith("done") for line in lines) >= 3
    print("\n".join(lines))
