"""From a file and typed options to the runs of a sweep, each of them checked."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fedcli.cli.options.alternatives import Alternatives
from fedcli.cli.options.building import make_scheme, make_start, plan_from
from fedcli.errors import UsageError
from fedcli.experiment.cases import Case
from fedcli.experiment.sections import by_name
from fedcli.experiment.sweep import Sweep, own_reducer, read_sweep
from fedcli.options import NONE, Given
from fedcli.plan.execution import Execution
from fedcli.plan.private_training import counted_alike
from fedcli.plan.secagg import SecaggOptions, check_maskable
from fedcli.plan.stopping import Stopping
from fedcli.setup.data_source import DataSource

_NAMED = 3  # cases in a message


def checked_sweep(
    file: Path | None,
    out: Path | None,
    typed: Mapping[str, Alternatives],
    noise_key: Path | None = None,
    place: Given = NONE,
) -> Sweep:
    """Return the sweep that a file and options ask for.

    Raises what ``read_sweep`` does, and ``UsageError`` for a case that cannot be run.
    """
    sweep = read_sweep(file, out, typed, noise_key, place)
    _check(sweep)
    _check_key(sweep)
    return sweep


def _check_key(sweep: Sweep) -> None:
    """Raise ``UsageError`` for a noise key that no case has a use for, or that one lacks."""
    probe = replace(sweep, noise_key=sweep.noise_key or Path("FILE"))
    noisy = [c for c in sweep.cases if probe.training_noise_key(c) or probe.central_noise_key(c)]
    if noisy and sweep.noise_key is None:
        raise UsageError(
            f"{noisy[0].name}: its noise comes from a secret key; name it with --noise-key",
            hint="fedcli keygen --noise FILE makes one",
        )
    if sweep.noise_key is not None and not noisy:
        raise UsageError(
            "--noise-key: has no use without --dp or --update-noise", hint="leave --noise-key out"
        )


def _check(sweep: Sweep) -> None:
    """Raise ``UsageError`` for cases that cannot be run, with the first reason."""
    wrong: list[tuple[Case, UsageError]] = []
    for case in sweep.cases:
        try:
            _check_case(sweep, case)
        except UsageError as error:
            wrong.append((case, error))
    if not wrong:
        return
    _, first = wrong[0]
    names = [case.name for case, error in wrong if error.message == first.message]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    hint = first.hint
    if hint is None and len(names) < len(sweep.cases):
        hint = "what belongs to some cases alone stands with them in a [[sweep.case]]"
    where = f" (in {', '.join(names[:_NAMED])}{more})" if len(sweep.cases) > 1 else ""
    raise first.amended(message=f"{first.message}{where}", hint=hint)


def _check_case(sweep: Sweep, case: Case) -> None:
    """Build what the steps of a case will build. Raises ``UsageError``."""
    named = {section: by_name(section, values) for section, values in case.settings.items()}
    run = named.get("run", {})
    for key, value in case.settings["run"].items():
        sweep.sections["run"][key].check(value)
    DataSource.of(named.get("data", {}))
    make_scheme(named.get("partition", {}))
    plans = {section: named.get(section, {}) for section in ("train", "aggregate")}
    named_rule = {"reduce": own_reducer(case)}  # the sweep types it for the steps
    aggregation = {key: value for key, value in named_rule.items() if value is not None}
    plan = plan_from(plans, case.name, aggregation=aggregation)
    secagg = SecaggOptions(**named.get("secagg", {}))
    if secagg.secagg:
        check_maskable(counted_alike(plan))
    make_start(named.get("model", {}), plan, run.get("seed", 0), secagg)
    Stopping(**sweep.of_run(case, Stopping))
    Execution(**sweep.of_run(case, Execution))
