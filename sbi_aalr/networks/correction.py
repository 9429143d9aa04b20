r"""A correction of densities: a classifier that sees how they err.

Where a density is too simple, what it leaves of a posterior is a simple function of its
whitened residuals z = A (y - m). So a small network f(theta, x, z) mends what one of
theta and x alone would have to learn anew. It is zero at first, and added to the
log-ratio.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sbi_aalr.networks.encode import Encode, squash
from sbi_aalr.networks.mixture import MixtureHead
from sbi_aalr.networks.residual import ResidualStack
from sbi_aalr.networks.scale import Scale

_HIDDEN_FEATURES = 64
_NUM_BLOCKS = 2
# Residuals beyond this many standard deviations count as these.
_CLIP = 6.0


class CorrectionInput(nn.Module):
    """The first layer's share of theta or of x, which each is embedded by once.

    Args:
        rows: Rows to take the scales from, shape `(N, *event_shape)`.
        embedding_net: Fitted net of scaled data, whose features it sees; not trained.
    """

    def __init__(self, rows: Tensor, embedding_net: nn.Module | None = None) -> None:
        super().__init__()
        self.scale = Scale(rows)
        self.embed: nn.Module = nn.Sequential(
            nn.Flatten(), Encode(rows[0].numel(), num_octaves=2)
        )
        if embedding_net is not None:
            self.embed = embedding_net
        with torch.no_grad():
            width = self.embed(self.scale(rows[:2])).shape[1]
        self.linear = nn.Linear(width, _HIDDEN_FEATURES)

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows `(N, *event_shape)` to `(N, H)`."""
        return self.linear(self.embed(self.scale(rows)))


class Correction(nn.Module):
    """The network f(theta, x, z) behind its first layer.

    Args:
        heads: Heads of the members whose residuals it sees; others are passed over.
    """

    num_inputs = _HIDDEN_FEATURES

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        width = sum(
            head.num_residuals for head in heads if isinstance(head, MixtureHead)
        )
        self.residuals = nn.Linear(2 * width, _HIDDEN_FEATURES) if width else None
        self.last = nn.Linear(_HIDDEN_FEATURES, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.body = ResidualStack(
            _HIDDEN_FEATURES, _HIDDEN_FEATURES, _NUM_BLOCKS, 0.0, nn.Identity()
        )

    def forward(self, theta: Tensor, x: Tensor, residuals: Sequence[Tensor]) -> Tensor:
        """Corrections of pairs.

        Args:
            theta: What `CorrectionInput` makes of theta, shape `(N, H)`.
            x: What `CorrectionInput` makes of x, shape `(N, H)`.
            residuals: Whitened residuals of each density, shapes `(N, K D)`.

        Returns:
            Corrections, shape `(N, 1)`, nats.
        """
        hidden = theta + x
        if self.residuals is not None:
            z = torch.cat(list(residuals), dim=1)
            features = torch.cat((squash(z), z.clamp(-_CLIP, _CLIP)), dim=1)
            hidden = hidden + self.residuals(features)
        return self.last(self.body(hidden).float())
