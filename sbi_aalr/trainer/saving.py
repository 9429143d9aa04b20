"""What of a trainer goes to disk: what it was given, what it has, what it has done.

Simulations in memory are written beside; of a store, its path is. What JSON cannot
hold, such as a network from your own builder, is given again when loading.
"""

import os
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from sbi_aalr.errors import UnsavedPriorWarning
from sbi_aalr.files import hash_tensors
from sbi_aalr.networks import Stack
from sbi_aalr.persistence.cut_files import encode_cuts
from sbi_aalr.persistence.network_json import encode_network
from sbi_aalr.persistence.prior_json import encode_prior
from sbi_aalr.persistence.trainer_files import write_trainer
from sbi_aalr.sampling.truncated_prior import TruncatedPrior
from sbi_aalr.sampling.validity import Validity
from sbi_aalr.simulation.stored_rows import StoredRows
from sbi_aalr.trainer.stacking import Structure
from sbi_aalr.training.classifiers import NamedBuilder
from sbi_aalr.training.parcel import label

# What there is of a fitted share of failures besides the weights of its layers.
VALIDITY = ("location", "spread", "logarithmic")


def save_trainer(trainer: Any, folder: str | os.PathLike[str]) -> Path:
    """Save a trainer; see `AALR.save`.

    Args:
        trainer: An `AALR`.
        folder: Where to.

    Returns:
        The folder.

    Raises:
        OSError: If it cannot be written to.
        ValueError: If it holds files of these names that are no saved trainer, or the
            estimator is neither the trainer's own nor made of its structures.
    """
    builder, base, prior = trainer._build_neural_net, trainer._base, trainer._prior
    if isinstance(prior, TruncatedPrior):
        raise ValueError("`prior` of a trainer must have no cuts to be saved.")
    described = None if prior is None else encode_prior(prior)
    is_named = isinstance(builder, NamedBuilder)
    loss = trainer._ratio_loss
    _, cuts, cut_tensors = encode_cuts(trainer._truncated_prior)
    weights = label("cuts.", cut_tensors)
    network, structures, own = _encode_estimators(trainer)
    weights |= own
    rounds, simulations = _encode_rounds(trainer, Path(folder))
    for number, theta in enumerate(trainer._failures):
        simulations[f"failures.{number}"] = theta
    for name, rows in zip(("training", "held_out"), trainer._split or (), strict=False):
        simulations[f"split.{name}"] = rows
    if trainer._validity is not None:
        simulations |= label("validity.", _pack_validity(trainer._validity))
    estimator = trainer._neural_net
    shapes: dict[str, Any] = {"theta_shape": None, "x_shape": None}
    if estimator is not None:
        shapes = {
            "theta_shape": list(estimator.theta_shape),
            "x_shape": list(estimator.x_shape),
        }
    document = {
        "prior": described,
        "has_prior": prior is not None,
        "classifier": builder.name if is_named else None,
        "classifier_settings": builder.settings if is_named else None,
        "loss": None if loss is None else vars(loss),
        "parameter_names": trainer._parameter_names,
        "base": base if isinstance(base, str | None) else "given",
        "has_embedding": trainer._embedding_net_x is not None,
        "exchangeable": trainer._exchangeable,
        "summary": dict(trainer._summary),
        "rounds": rounds,
        "num_failures": len(trainer._failures),
        "network": network,
        "structures": structures,
        "cuts": cuts,
        "is_truncated": trainer._truncated_prior is not None,
        **shapes,
    }
    path = write_trainer(folder, document, [p for p in (weights, simulations) if p])
    if prior is not None and described is None:
        warnings.warn(
            UnsavedPriorWarning(
                f"The prior, a {type(prior).__name__}, was not saved: it cannot be "
                "described in JSON. Give the same one again when loading, "
                "`AALR.load(folder, prior=...)`."
            ),
            stacklevel=3,
        )
    return path


def _pack_validity(validity: Validity) -> dict[str, Tensor]:
    parts = {name: getattr(validity, name) for name in VALIDITY}
    return parts | {str(i): tensor for i, tensor in enumerate(validity.weights)}


def _encode_estimators(
    trainer: Any,
) -> tuple[dict[str, Any] | None, list[dict[str, Any]] | None, dict[str, Tensor]]:
    """The estimator, the structures, and the weights of both."""
    weights: dict[str, Tensor] = {}
    structures: list[Structure] | None = trainer._structures
    documents = None
    if structures is not None:
        documents = []
        for number, structure in enumerate(structures):
            member = structure.member
            document = None if member is None else member._asdict()
            if document is not None and member is not None and member.recipe:
                document["recipe"] = member.recipe._asdict()
            documents.append(
                {"member": document, **encode_network(structure.estimator)}
            )
            state = structure.estimator.state_dict()
            weights |= label(f"structures.{number}.", state)
    estimator = trainer._neural_net
    if estimator is None:
        return None, documents, weights
    places = {id(s.estimator): i for i, s in enumerate(structures or [])}
    if id(estimator) in places:
        return {"structure": places[id(estimator)]}, documents, weights
    network = encode_network(estimator)
    if isinstance(estimator, Stack) and all(id(m) in places for m in estimator.stacked):
        members = [places[id(member)] for member in estimator.stacked]
        proposal = estimator.proposal
        if proposal is not None and places[id(proposal)] not in members:
            members.append(places[id(proposal)])
        network = {"stacked": members, "settings": network["classifier_settings"]}
    return network, documents, weights | label("network.", estimator.state_dict())


def _encode_rounds(
    trainer: Any, folder: Path
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """What was appended: in memory as tensors, in stores by their paths."""
    rounds: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    appended = zip(
        trainer._theta_roundwise,
        trainer._x_roundwise,
        trainer._data_round_index,
        strict=True,
    )
    for number, (theta, x, of_round) in enumerate(appended):
        entry = {"round": of_round, "rows": len(theta), "sha256": None}
        if isinstance(x, StoredRows):
            rows = x.stores[0]
            store = Path(os.path.abspath(rows.path))
            entry |= {
                "store": str(store),
                "relative": os.path.relpath(store, os.path.abspath(folder)),
                "num_appends": rows.num_appends,
                "sha256": hash_tensors({"theta": theta}),
            }
        else:
            tensors |= {f"theta.{number}": theta, f"x.{number}": x}
        rounds.append(entry)
    return rounds, tensors
