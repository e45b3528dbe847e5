"""What an update says of how it was made: its inputs, before the training."""

import math
from dataclasses import replace

import numpy as np

from fedcli.algorithms.lengths import normalized_steps
from fedcli.client.private import public_event
from fedcli.client.session import Session
from fedcli.client.starting_state import StartingState
from fedcli.errors import UsageError
from fedcli.formats.metadata import Kind, Metadata
from fedcli.training.loop import steps_of


def update_metadata(
    session: Session, client: str, examples: int, digest: str, start: StartingState
) -> Metadata:
    """Describe the update and its inputs, which include the state that the client starts from."""
    codec, withheld = session.plan.codec, session.tensors.withheld
    roles = {name: role for name, role in session.base.roles.items() if name not in withheld}
    steps = steps_of(session.plan, examples)
    training = replace(
        session.training,
        steps=steps,
        examples=digest,
        state=start.sha256s[0] if len(start.sha256s) == 1 else start.sha256s,
        privacy=public_event(session.plan, examples),
    )
    if session.plan.local.divides_by_length:
        training = training.plus(session.plan.local.recorded(checked_length(session, steps)))
    return Metadata(
        Kind.UPDATE,
        session.run.id,
        round=session.round.number,
        client=client,
        num_examples=None if session.withholds else examples,
        base=session.base.sha256,
        roles=roles if codec is None else {},
        tied=session.base.tied,
        training=training,
        seed=session.seed,
        encoding=None if codec is None else codec.as_json(),
    )


def checked_length(session: Session, steps: int) -> float:
    """Return the normalised number of steps, by which the algorithm divides.

    Raises ``UsageError`` unless it is above 0, as a strong proximal term may prevent.
    """
    plan, lr, proximal = session.plan, session.lr, session.plan.proximal or 0.0
    with np.errstate(all="ignore"):
        length = normalized_steps(steps, momentum=plan.momentum, lr=lr, proximal=proximal)
    if not 0 < length * lr < math.inf:
        raise UsageError(
            f"--proximal {proximal:g}: {plan.algorithm} divides by the length of the steps, and"
            f" {steps} with --lr {lr:g} and --momentum {plan.momentum:g} have a length of"
            f" {length:g}",
            hint="lower --lr or --proximal",
        )
    return length
