"""Comparisons of methods that take no time, and what they leave."""

from instant_methods import Task

from sbi_aalr.comparison import compare

KEYS = ["task", "method", "budget", "observation", "seed"]
TIMES = ["train_seconds", "sample_seconds", "peak_memory"]


def run(out, methods, budgets=(60, 60), task=None, **settings):
    settings = {
        "observations": 2,
        "num_samples": 60,
        "show_progress_bars": False,
        **settings,
    }
    return compare({"toy": task or Task()}, methods, budgets, out=out, **settings)


def read_log(path):
    return [line.split()[0] for line in path.read_text().splitlines()]


def stamp(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
