"""What `print(trainer)` says."""

from typing import Any


def describe(trainer: Any) -> str:
    """Say what a trainer trains on, and how far it came.

    Args:
        trainer: An `AALR`.
    """
    prior = trainer._prior
    given = "none; pass it to `build_posterior`" if prior is None else type(prior)
    lines = [f"prior: {getattr(given, '__name__', given)}"]
    if trainer._parameter_names is not None:
        lines.append(f"parameters: {', '.join(trainer._parameter_names)}")
    stored = sum(len(theta) for theta in trainer._theta_roundwise)
    lines.append(f"stored simulations: {stored:,}")
    lines.append(f"device: {trainer._device}")
    lines.append(f"estimator: {_describe_estimator(trainer)}")
    return "\n".join([type(trainer).__name__, *(f"  {line}" for line in lines)])


def _describe_estimator(trainer: Any) -> str:
    if trainer._neural_net is None:
        return "none; call `train_online`, `train` or `train_truncated`"
    size = sum(weight.numel() for weight in trainer._neural_net.parameters())
    losses = trainer.summary["validation_loss"] or trainer.summary["training_loss"]
    kind = "held-out" if trainer.summary["validation_loss"] else "training"
    said = f"{size:,} weights"
    return f"{said}, {kind} loss {losses[-1]:.4f}" if losses else said
