"""Which call a checkpoint is of: what was asked for, and of which trainer."""

from typing import Any

from torch import Tensor

from sbi_aalr.checks import check_seed
from sbi_aalr.files import hash_tensors
from sbi_aalr.simulation.fill import draw_theta, name_simulator
from sbi_aalr.simulation.stored_rows import StoredRows
from sbi_aalr.trainer.journal import Journal
from sbi_aalr.training.classifiers import NamedBuilder
from sbi_aalr.training.recipe import TrainingSettings

_NUM_PROBES = 5


def identify(
    journal: Journal,
    trainer: Any,
    call: str,
    settings: TrainingSettings,
    **arguments: Any,
) -> None:
    """Say in a journal which call it is of, or raise if it is of another one.

    Args:
        journal: The journal.
        trainer: Whose call it is.
        call: The method.
        settings: What the user set.
        **arguments: The other arguments, in a form that JSON holds.

    Raises:
        ValueError: If the journal is of another call.
    """
    if not journal.is_kept:
        return
    if arguments.get("seed") is not None:
        arguments["seed"] = check_seed("seed", arguments["seed"])
    loss, net = trainer._ratio_loss, trainer._embedding_net_x
    prior = trainer._prior
    probes = None if prior is None else draw_theta(prior, _NUM_PROBES, 0)
    journal.identify(
        call,
        **arguments,
        **vars(settings),
        prior=None if probes is None else hash_tensors({"theta": probes}),
        classifier=_describe_builder(trainer._build_neural_net),
        loss=None if loss is None else vars(loss),
        base=trainer._base if isinstance(trainer._base, str | None) else "given",
        exchangeable=trainer._exchangeable,
        embedding_net_x=None if net is None else type(net).__name__,
    )


def hash_simulations(theta: Tensor, x: Any) -> str:
    """A hash of simulations, of those in a store by their parameters.

    Args:
        theta: Parameters, shape `(N, D)`.
        x: Data, a tensor or `StoredRows`.
    """
    data = {} if isinstance(x, StoredRows) else {"x": x}
    return hash_tensors({"theta": theta, **data}, str(tuple(x.shape)))


def _describe_builder(builder: Any) -> Any:
    if isinstance(builder, NamedBuilder):
        return [builder.name, builder.settings]
    return name_simulator(getattr(builder, "args", [builder])[0])
