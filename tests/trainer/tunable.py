"""Small trainers that are tuned."""

from trainers import append, make_trainer

from sbi_aalr import networks
from sbi_aalr.training import tuned

NUM_ROWS = 300
SHORT = {"max_num_epochs": 15, "seed": 1}
SMALL = networks.two_towers(16, 1, dropout=0.2, num_octaves=2)


def make(base=None, classifier=SMALL, num_rows=NUM_ROWS):
    trainer = make_trainer(classifier if base is None else "two_towers", base=base)
    return append(trainer, num_rows)


def keep(monkeypatch, is_kept=True):
    """Let the tuned fit be kept in any case, or never."""
    monkeypatch.setattr(tuned, "_LEAST_GAIN", -1e9 if is_kept else 1e9)


def get_report(trainer):
    [entry] = trainer.summary["tuning"]
    return entry["structures"][-1]
