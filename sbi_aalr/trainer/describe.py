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
    lines.append(f"estimator: {describe_estimator(trainer)}")
    return "\n".join([type(trainer).__name__, *(f"  {line}" for line in lines)])


def describe_estimator(trainer: Any) -> str:
    """Say what was fitted, how large it is, and to which loss.

    Args:
        trainer: An `AALR`.
    """
    if trainer._neural_net is None:
        return "none; call `train_online`, `train` or `train_truncated`"
    size = sum(weight.numel() for weight in trainer._neural_net.parameters())
    recipe = (trainer.summary.get("recipe") or [{}])[-1]
    said = f"{size:,} weights"
    if recipe.get("classifier") == "stack":
        structures = recipe["structures"]
        parts = [(one.get("weight") or 0.0, one["structure"]) for one in structures]
        parts.sort(reverse=True)
        shares = ", ".join(f"{name} {share:.2g}" for share, name in parts if share)
        if recipe["has_correction"]:
            shares += ", with a correction"
        loss = recipe["held_out_loss"]
        told = "" if loss is None else f", held-out loss {loss:.4f}"
        return f"stack of {shares}; {said}{told}"
    held_out = trainer.summary["validation_loss"]
    if held_out:
        return f"{said}, held-out loss {min(held_out):.4f}"
    losses = trainer.summary["training_loss"]
    return f"{said}, training loss {losses[-1]:.4f}" if losses else said
