"""Options that several commands share."""

from typing import Annotated

import typer

# Seconds that the demo fits for, unless told otherwise.
TIME_LIMIT = 180.0

Seed = Annotated[int, typer.Option(help="Makes the run repeatable.")]
Device = Annotated[str, typer.Option(help="Torch device, such as cpu or cuda:0.")]
Prior = Annotated[
    str | None,
    typer.Option(
        help="The prior as module:name, where the run could not hold it.",
        show_default="as saved",
    ),
]
Classifier = Annotated[
    str | None,
    typer.Option(
        help="The builder of the network as module:name, where it was your own.",
        show_default="as saved",
    ),
]
EmbeddingNet = Annotated[
    str | None,
    typer.Option(
        help="The net of the data as module:name, where you gave one.",
        show_default="none",
    ),
]
ParameterNames = Annotated[
    str | None,
    typer.Option(
        help="Names of the parameters, with commas between.", show_default="as saved"
    ),
]
OnError = Annotated[
    str, typer.Option(help="skip sets failures aside, raise ends the run.")
]
NumSamples = Annotated[int, typer.Option(help="Posterior draws for each observation.")]


def split_names(text: str | None) -> list[str] | None:
    """Names that have commas between; None for none."""
    return None if text is None else [name.strip() for name in text.split(",")]
