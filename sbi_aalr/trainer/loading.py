"""Make a trainer again of what was saved of it."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sbi.utils import mask_sims_from_prior
from torch import Tensor

from sbi_aalr.files import hash_tensors
from sbi_aalr.networks.given_density import GIVEN_DENSITY
from sbi_aalr.persistence.cut_files import rebuild_cuts
from sbi_aalr.persistence.network_json import build_stack, rebuild_network
from sbi_aalr.persistence.network_weights import build_for_weights
from sbi_aalr.persistence.posterior_settings import EMBEDDED, shorten
from sbi_aalr.persistence.prior_json import decode_prior, is_same_prior
from sbi_aalr.persistence.run_folder import TRAINER
from sbi_aalr.persistence.trainer_files import read_trainer
from sbi_aalr.sampling.validity import Validity
from sbi_aalr.simulation import SimulationStore
from sbi_aalr.simulation.stored_rows import StoredRows
from sbi_aalr.trainer.saving import VALIDITY
from sbi_aalr.trainer.simulations import correct_prior
from sbi_aalr.trainer.stacking import Structure
from sbi_aalr.training.bases import check_given_base
from sbi_aalr.training.classifiers import NamedBuilder
from sbi_aalr.training.members import Member
from sbi_aalr.training.parcel import select
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.training.recipe import Recipe


def load_trainer(
    make: Callable[..., Any], folder: str | os.PathLike[str], given: Mapping[str, Any]
) -> Any:
    """Make a trainer of what `save_trainer` wrote; see `AALR.load`.

    Args:
        make: The class.
        folder: Where from.
        given: What is given again, and the arguments that are not saved.

    Returns:
        The trainer.

    Raises:
        FileNotFoundError: If the folder holds no saved trainer, or a store that it
            refers to is gone.
        ValueError: If a file is damaged, or something must be given again.
    """
    document, tensors = read_trainer(folder)
    path = Path(folder) / TRAINER
    _require(document, given)
    with _said(path):
        prior = _find_prior(document, given["prior"])
        loss = None if document["loss"] is None else RatioLoss(**document["loss"])
        name, settings = document["classifier"], document["classifier_settings"]
        classifier = given["classifier"]
        if classifier is None:
            classifier = NamedBuilder(name, settings, given["embedding_net_x"])
    trainer = make(
        prior,
        classifier,
        given["device"],
        show_progress_bars=given["show_progress_bars"],
        loss=loss,
        parameter_names=document["parameter_names"],
        base=given["base"] if document["base"] == "given" else document["base"],
        embedding_net_x=None if given["classifier"] else given["embedding_net_x"],
        exchangeable=document["exchangeable"],
    )
    _bring_rounds(trainer, document, tensors, Path(folder))
    with _said(path):
        _bring_estimators(trainer, document, tensors, given["classifier"])
        trainer._summary.update(document["summary"])
    return trainer


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """Tell of which file it is that something does not fit."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        if str(error).startswith("`prior`"):
            raise
        raise ValueError(f"{path} is damaged: {shorten(error)}") from error


def _require(document: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise unless all is given again that JSON could not hold."""
    missing = {
        "prior": document["has_prior"] and document["prior"] is None,
        "classifier": document["classifier"] is None,
        "base": document["base"] == "given",
        "embedding_net_x": document["has_embedding"] and not given["classifier"],
    }
    if missing["base"]:
        check_given_base(given["base"])
    for name, is_missing in missing.items():
        if is_missing and given[name] is None:
            article = "an" if name[0] in "aeiou" else "a"
            raise ValueError(
                f"The trainer was saved with {article} {name} that JSON cannot hold. "
                f"Pass the same one again: `AALR.load(folder, {name}=...)`."
            )


def _find_prior(document: Mapping[str, Any], given: Any) -> Any:
    described = document["prior"]
    if described is None:
        return given
    if given is not None and not is_same_prior(described, given):
        raise ValueError(
            "`prior` must be the one that the trainer was saved with, got another "
            f"{type(given).__name__}. Leave it out."
        )
    return decode_prior(described)


def _bring_rounds(
    trainer: Any, document: Mapping[str, Any], tensors: dict[str, Tensor], folder: Path
) -> None:
    """Give a trainer its simulations."""
    for number, entry in enumerate(document["rounds"]):
        x: Any
        if "store" in entry:
            theta, x = _read_store(entry, folder)
        else:
            theta, x = tensors[f"theta.{number}"], tensors[f"x.{number}"]
            x = x.to(trainer._device)
        trainer._theta_roundwise.append(theta.to(trainer._device))
        trainer._x_roundwise.append(x)
        trainer._prior_masks.append(mask_sims_from_prior(entry["round"], len(theta)))
        trainer._data_round_index.append(entry["round"])
    count = document["num_failures"]
    trainer._failures = tuple(tensors[f"failures.{i}"] for i in range(count))
    if found := select("validity.", tensors):
        layers = range(len(found) - len(VALIDITY))
        location, spread, logarithmic = (found[name] for name in VALIDITY)
        weights = [found[str(layer)] for layer in layers]
        validity = Validity(location, spread, logarithmic, weights)
        trainer._validity = validity.to(trainer._device)
    if split := select("split.", tensors):
        trainer._split = split["training"], split["held_out"]


def _read_store(entry: Mapping[str, Any], folder: Path) -> tuple[Tensor, StoredRows]:
    places = [folder / entry["relative"], Path(entry["store"])]
    found = [place for place in places if place.exists()]
    if not found:
        raise FileNotFoundError(
            f"The trainer's simulations are in the store {entry['store']}, which is "
            "gone. Bring it back to that place."
        )
    rows = SimulationStore(found[0]).freeze(entry["num_appends"])
    theta = rows.read("theta", 0, len(rows))
    if hash_tensors({"theta": theta}) != entry["sha256"]:
        raise ValueError(
            f"{found[0]} holds other simulations than those that the trainer was "
            "saved with."
        )
    return theta, StoredRows([rows])


def _bring_estimators(
    trainer: Any,
    document: Mapping[str, Any],
    tensors: dict[str, Tensor],
    classifier: object,
) -> None:
    """Give a trainer its estimator and its structures."""
    network, device = document["network"], trainer._device
    shapes = {name: document[name] for name in ("theta_shape", "x_shape")}
    base = trainer._base if document["base"] == "given" else None
    own = {"embedding_net_x": trainer._embedding_net_x, "base": base, **shapes}
    if document["structures"] is not None:
        prior: Any = correct_prior(trainer, None)
        trainer._structures = [
            Structure(
                _decode_member(one["member"]),
                rebuild_network(
                    _find_network(one),
                    select(f"structures.{number}.", tensors),
                    prior=prior,
                    **own,
                ).to(device),
            )
            for number, one in enumerate(document["structures"])
        ]
    if network is None:
        return
    weights = select("network.", tensors)
    estimators = [structure.estimator for structure in trainer._structures or []]
    if "structure" in network:
        trainer._neural_net = estimators[network["structure"]]
    elif "stacked" in network:
        members = [estimators[place] for place in network["stacked"]]
        trainer._neural_net = build_for_weights(
            lambda theta, x: build_stack(members, network["settings"], theta, x),
            {**weights},
            **shapes,
        ).to(device)
    else:
        trainer._neural_net = rebuild_network(
            network, weights, classifier=classifier, prior=trainer._prior, **own
        ).to(device)
    if document["is_truncated"]:
        trainer._truncated_prior = rebuild_cuts(
            trainer._prior,
            document["cuts"],
            select("cuts.", tensors),
            classifier=classifier,
            **own,
        )


def _find_network(one: Mapping[str, Any]) -> dict[str, Any]:
    """What `encode_network` wrote of a structure."""
    network = {name: one[name] for name in one.keys() - {"member"}}
    # Up to version 0.2.0 a density that was given was not named here.
    if one["member"] is not None and one["member"]["name"] == GIVEN_DENSITY:
        network[EMBEDDED] = GIVEN_DENSITY
    return network


def _decode_member(found: Mapping[str, Any] | None) -> Member | None:
    if found is None:
        return None
    recipe = None if found["recipe"] is None else Recipe(**found["recipe"])
    return Member(found["name"], found["settings"], recipe)
