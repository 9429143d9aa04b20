"""Options that several commands share."""

from typing import Annotated

import typer

Seed = Annotated[int, typer.Option(help="Makes the run repeatable.")]
Device = Annotated[str, typer.Option(help="Torch device, such as cpu or cuda:0.")]
Prior = Annotated[
    str | None,
    typer.Option(
        help="The prior as module:name, where the run could not hold it.",
        show_default="as saved",
    ),
]
NumSamples = Annotated[int, typer.Option(help="Posterior draws for each observation.")]
