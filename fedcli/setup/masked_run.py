"""New runs whose updates are masked, and the keys of all parties of a simulation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedcli.errors import BadInputError
from fedcli.masking.quantise import Grid
from fedcli.plan import Plan
from fedcli.plan.secagg import SecaggOptions, masked_plan
from fedcli.run import Run
from fedcli.run.info import RunInfo
from fedcli.run.sampling import sample_size
from fedcli.security.key_files import KeyFile, make_keys

_KEYS = ("members", "masking_keys", "coordinator")


def plan_with_masks(info: RunInfo, options: SecaggOptions) -> Plan | None:
    """Return the plan of a run with secure aggregation; None if it is not asked for.

    Raises ``UsageError`` for options that do not suit the number of clients in a round.
    """
    count = sample_size(info.plan.aggregate, len(info.clients))
    secagg = options.planned(count, info.plan.aggregate)
    if secagg is None:
        return None
    Grid(secagg.clip, secagg.bits, count)
    return masked_plan(info.plan, secagg, count)


@dataclass(frozen=True)
class SimulatedKeys:
    """The private keys of all parties of a simulation, which its one owner plays."""

    members: Mapping[str, KeyFile]
    coordinator: KeyFile

    @property
    def public(self) -> dict[str, Any]:
        """The public keys, as ``RunInfo`` names them."""
        public = {client: keys.public for client, keys in self.members.items()}
        return {
            "members": {client: keys.signing for client, keys in public.items()},
            "masking_keys": {client: keys.masking for client, keys in public.items()},
            "coordinator": self.coordinator.public.signing,
        }

    def write(self, run: Run) -> None:
        """Write them into a run. Raises ``StorageError``."""
        places = {run.member_key(client): keys for client, keys in self.members.items()}
        for path, keys in {run.coordinator_key: self.coordinator, **places}.items():
            replace(keys, path=path).write()


def masked_simulation(
    root: Path, info: RunInfo, options: SecaggOptions, *, force: bool
) -> tuple[RunInfo, SimulatedKeys | None]:
    """Return a simulation with secure aggregation, if it is asked for, and its new keys.

    A run that is at ``root`` keeps its keys, unless ``force`` replaces it: keys are random, so
    otherwise no run could be asked for twice. Raises what ``plan_with_masks`` does.
    """
    plan = plan_with_masks(info, options)
    if plan is None:
        return info, None
    old = None if force else _at(root)
    if old is not None and old.masking_keys.keys() == set(info.clients):
        return replace(info, plan=plan, **{name: getattr(old, name) for name in _KEYS}), None
    made = SimulatedKeys({c: make_keys(root) for c in info.clients}, make_keys(root))
    return replace(info, plan=plan, **made.public), made


def _at(root: Path) -> RunInfo | None:
    """Return what the run at ``root`` is; None for none, whatever else is there."""
    try:
        return Run.open(root).info
    except BadInputError:
        return None
