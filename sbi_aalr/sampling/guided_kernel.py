"""A kernel that proposes from q(theta|x), and now and then as another kernel does.

What q covers, a chain crosses in a step; what it misses, the other kernel walks into
and out of. Proposals of q do not depend on where a chain stands, so that those of many
steps are made and evaluated at once.

References:
    Tierney (1994), Annals of Statistics 22(4), sections 2.3.3 and 2.4.
"""

from dataclasses import replace

from torch import Generator, Tensor

from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal, State
from sbi_aalr.mcmc.kernels.mix import mix
from sbi_aalr.mcmc.run import block_size
from sbi_aalr.mcmc.step import take_in_turn
from sbi_aalr.sampling.guided import Guide
from sbi_aalr.sampling.plan import Plan
from sbi_aalr.types import LogProbFn

# Steps of the other kernel among ten.
_SHARE = 0.2


# Draws of the target that a draw of q must be worth, at least, to propose.
LEAST_SHARE = 0.15
# Chains in warm-up, and the steps from one of its draws to the next.
POPULATION, WARMUP_THIN = 32, 2


def follow(plan: Plan, guide: Guide, x: Tensor) -> Plan:
    """A plan whose kernel proposes from q for observations `(B, *event_shape)`.

    Chains that start from draws of q, weighted, need little warm-up: it keeps as many
    draws, fewer steps apart.
    """
    settings = plan.settings
    num_draws = settings.warmup_steps // max(plan.thin, block_size(plan.kernel))
    return plan._replace(
        kernel=guide_kernel(guide, x, plan.kernel),
        settings=replace(settings, warmup_steps=num_draws * WARMUP_THIN),
        thin=plan.guided_thin or plan.thin,
    )


def guide_kernel(guide: Guide, x: Tensor, kernel: Kernel) -> Kernel:
    """Mix a kernel with proposals from q.

    Its parameters hold all that it needs to know of the observations, so that one that
    was made for some serves others too, with their parameters.

    Args:
        guide: What draws from q, in the units that are sampled in.
        x: The observations that its parameters are built for, `(B, *event_shape)`.
        kernel: The other kernel.

    Returns:
        The mixture.
    """

    def build(generator: Generator, starts: Tensor) -> Tensor:
        return guide.embed(x)

    def propose(
        generator: Generator,
        position: Tensor,
        others: Tensor,
        log_prob_fn: LogProbFn,
        embedded_x: Tensor,
    ) -> Proposal:
        proposed, there = guide.draw_embedded(generator, embedded_x, len(position))
        return Proposal(proposed, guide.log_density(embedded_x, position) - there)

    def advance(
        generator: Generator,
        state: State,
        log_prob_fn: LogProbFn,
        embedded_x: Tensor,
        num_steps: int,
    ) -> tuple[State, Info]:
        count = num_steps * len(state.position)
        proposed, log_q = guide.draw_embedded(generator, embedded_x, count)
        proposals = State(proposed, log_prob_fn(proposed))
        here = guide.log_density(embedded_x, state.position)
        return take_in_turn(generator, state, proposals, log_q, here)

    own = Kernel(build, propose, advance=advance)
    return mix([own, kernel], [1 - _SHARE, _SHARE])
