"""Whether a directory holds exactly this run, another one, or what is left of one."""

from pathlib import Path
from typing import Any

from fedcli.errors import BadInputError, ConflictError
from fedcli.options import option_of
from fedcli.run import Run
from fedcli.run.info import RunInfo
from fedcli.run.sampling import sampled_clients


def existing(root: Path, info: RunInfo, *, force: bool) -> Run | None:
    """Return the run at ``root`` if ``info`` describes exactly this run.

    Returns None without a run, or when ``force`` replaces it. Raises ``ConflictError`` for another
    run, or for rounds without a ``run.json``, and ``UsageError`` if the plan cannot sample the
    clients.
    """
    sampled_clients(info, 1)
    if force:
        return None
    if not (root / "run.json").exists():
        if _trained_rounds(root):
            raise ConflictError(
                "holds rounds of a run whose run.json is gone",
                hint="use another --run, or replace them with --force",
                path=root / "rounds",
            )
        return None
    try:
        run = Run.open(root)
    except BadInputError as error:
        raise error.amended(hint="replace it with --force") from None
    if run.id == info.id:
        return run
    raise ConflictError(
        f"there is another run: {_difference(run.info, info)}",
        hint="use another --run, or replace that run with --force",
        path=root / "run.json",
    )


def _trained_rounds(root: Path) -> bool:
    rounds = root / "rounds"
    models = set(rounds.glob("[0-9]*/global.safetensors"))
    return any(rounds.glob("[0-9]*/updates/*.safetensors")) or bool(
        models - {rounds / "0000" / "global.safetensors"}
    )


def _difference(old: RunInfo, new: RunInfo) -> str:
    """Describe the first difference between two runs."""
    before, after = _flat(old.as_json()), _flat(new.as_json())
    keys = [key for key in (*before, *after) if key != "id" and before.get(key) != after.get(key)]
    key = keys[0]
    return f"its {_named(key)} is {_short(before.get(key))}, not {_short(after.get(key))}"


def _named(key: str) -> str:
    """Name the option that sets a key of ``run.json``; a key that no option sets stays."""
    section, _, name = key.rpartition(".")
    if key == "model.name":
        return "--model"
    if section == "plan.secagg" and name != "threshold":
        return option_of(f"secagg_{name}")
    is_option = key == "seed" or section.startswith(("plan.", "model"))
    return option_of(name) if is_option else key


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        nested = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        flat.update(nested or {f"{prefix}{key}": value})
    return flat


def _short(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 40 else f"{text[:39]}…"
