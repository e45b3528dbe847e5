"""Shared by ``partition`` and ``init``: model, plan, round 0, and replacing an old run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fedcli.errors import BadInputError, ConflictError, OvertakenError, StorageError, UsageError
from fedcli.formats import checkpoint
from fedcli.masking.maskable import check_held
from fedcli.options import check, check_seed, option, option_of
from fedcli.plan import Plan
from fedcli.plan.private_training import private_plan
from fedcli.plan.secagg import SecaggOptions
from fedcli.run import Run
from fedcli.run.info import ModelInfo, RunInfo
from fedcli.run.normalization import NORMALIZATIONS, Constants, for_channels
from fedcli.run.sampling import sampled_clients
from fedcli.security.keys import SigningKey
from fedcli.security.noise_key import read_noise_key
from fedcli.security.signatures import sign_global
from fedcli.setup.preprocessing import preprocessing_of
from fedcli.setup.replacement import take_place
from fedcli.storage.atomic import temporary_directory

if TYPE_CHECKING:
    from fedcli.models.weights import InitialModel


@dataclass(frozen=True)
class Start:
    """The starting model and the plan of a run.

    ``constants`` are mean and std of pixels if nothing else is requested, None for ``half``;
    ``noise_key`` is the SHA-256 of the key of the coordinator's noise, None without one.
    """

    model: ModelInfo = field(default_factory=lambda: ModelInfo("cnn"))
    init_from: Path | None = option(
        None,
        "Start from the weights in a .safetensors or .pth file, also inside a training"
        " checkpoint; a last layer with another number of classes is re-initialised.",
        "FILE",
        unset="fresh weights from the seed",
    )
    pretrained: bool = option(
        False,
        "Start from torchvision's ImageNet weights, downloaded if needed; the last layer is"
        " re-initialised, unless there are 1000 classes.",
        flag=True,
    )
    normalize: str | None = option(
        None,
        "Mean and standard deviation of pixels: `half` (0.5 and 0.25) or `imagenet`.",
        "NAME",
        choices=NORMALIZATIONS,
        unset="`half`; with torchvision's weights, what they expect",
    )
    constants: Constants | None = None
    plan: Plan = field(default_factory=Plan)
    seed: int = 0
    noise_key: str | None = None
    secagg: SecaggOptions = field(default_factory=SecaggOptions)

    def __post_init__(self) -> None:
        """Refuse values that cannot be used (``UsageError``)."""
        check(self)
        if self.init_from is not None and self.pretrained:
            raise UsageError("--pretrained: --init-from already says which weights to start from")
        check_seed(self.seed)

    def settled(self) -> Self:
        """Return this start with what its weights expect of their inputs.

        Raises ``UsageError`` if that cannot be known, and what ``read_weight_file`` raises.
        """
        expected = preprocessing_of(self.model, self.init_from, pretrained=self.pretrained)
        model = replace(self.model, transform_input=expected.transform_input or None)
        return replace(self, model=model, constants=expected.constants)

    def committed(self, noise_key: Path | None, root: Path) -> Self:
        """Return this start of a run at ``root`` with the commitment to a noise key.

        Raises ``UsageError`` if the plan needs one, for one in a run with masked updates, and what
        ``read_noise_key`` does.
        """
        masked = self.secagg.secagg
        if masked and noise_key is not None:
            raise UsageError(
                "--noise-key: has no use with --secagg: every member draws its part of the noise"
                " from its own --key",
                hint="leave --noise-key out",
            )
        if masked:
            return self
        if noise_key is not None:
            key = read_noise_key(noise_key, outside=root)
            return replace(self, noise_key=key.commitment)
        if self.plan.aggregate.update_noise and self.noise_key is None:
            raise UsageError(
                "--update-noise: comes from a secret key, which the run commits to; name it with"
                " --noise-key",
                hint="fedcli keygen --noise FILE makes one",
            )
        return self

    def normalization(self, dtype: str, channels: int) -> Constants:
        """Return mean and standard deviation per channel, for data of this dtype.

        Floating-point data is not normalised. Grey pictures get the mean over the channels: they
        are normalised before a network receives them as RGB. Raises ``UsageError`` if the constants
        do not fit.
        """
        if dtype != "uint8":
            if self.normalize is not None:
                raise UsageError("--normalize: floating-point data is used as it is")
            return (0.0,), (1.0,)
        mean, std = self.constants or NORMALIZATIONS["half"]
        if self.normalize is not None:
            mean, std = NORMALIZATIONS[self.normalize]
        mean, std = for_channels((mean, std), channels)
        if len(mean) not in (1, channels):
            option = f"--normalize {self.normalize}" if self.normalize else "--pretrained"
            raise UsageError(
                f"{option}: its constants are for {len(mean)} channels, the pictures have"
                f" {channels}"
            )
        return mean, std

    @property
    def own_factory(self) -> str | None:
        """The user's own network, which the person who makes the run asked for."""
        return self.model.name if self.model.is_users_own else None

    def origin(self) -> dict[str, Any]:
        """Return the identity of the starting weights, for ``run.json``."""
        weights = None if self.init_from is None else checkpoint.digest(self.init_from)
        return {"init_from": weights, "pretrained": self.pretrained}


def other_seeds(seed: int, **seeds: int | None) -> dict[str, int]:
    """Return those of ``data_seed`` and ``partition_seed`` that differ from the run's seed."""
    return {name: one for name, one in seeds.items() if one is not None and one != seed}


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


@contextmanager
def built_aside(root: Path, info: RunInfo, *, force: bool) -> Iterator[Run]:
    """Provide a run in a temporary directory, which moves to ``root`` when the block succeeds.

    Until then an old run stays complete. If another process makes the same run meanwhile, that one
    stays. Raises ``ConflictError`` if it makes a different one, and ``StorageError``.
    """
    with temporary_directory(root, "new") as aside:
        run = Run.create(aside, info)
        yield run
        try:
            take_place(run, root, force=force)
        except OvertakenError:
            existing(root, info, force=False)
        except OSError as error:
            what = "replace the old run" if force else "make the run"
            hint = "nothing was changed; repeat the command once the cause is removed"
            raise StorageError(f"cannot {what}: {error}", hint=hint, path=root) from error


def plan_of(start: Start, classes: Sequence[str], shape: tuple[int, ...]) -> Plan:
    """Return the plan of a run; with LoRA, freeze everything that is not trained.

    LoRA trains the adapters, the last layer, and layers that stay with the client, unless the plan
    freezes something itself. Clients that train in private count alike. Raises ``UsageError`` for a
    model that is unknown or does not fit, and what ``private_plan`` does.
    """
    plan = private_plan(start.plan)
    train = plan.train
    if start.model.lora is None or train.freeze:
        return plan
    from fedcli.client.tensors import with_local_layers
    from fedcli.models import build, check_model, try_model
    from fedcli.models.lora import all_but_adapters
    from fedcli.models.ties import ties_of
    from fedcli.plan.layer_patterns import matching

    check_model(start.model, shape)
    module = build(start.model, len(classes), shape, own=start.own_factory, seed=start.seed)
    last_layer = try_model(module, start.model, shape).last_layer
    names = module.state_dict()
    local = with_local_layers(train, module).local_layers
    if any(pattern.startswith("!") for pattern in local):  # "!!" cannot negate them again
        local = tuple(sorted(matching(local, names)))
    trained = matching([last_layer, *local], names)
    tied = {n for pair in ties_of(module).items() if trained & {*pair} for n in pair}
    freeze = all_but_adapters(last_layer, (*local, *sorted(tied)))
    return replace(plan, train=replace(train, freeze=freeze))


def initial_model(start: Start, info: RunInfo) -> "InitialModel":
    """Build the starting model.

    Raises ``UsageError`` for one that is unknown, or does not fit the examples or the plan.
    """
    from fedcli.client.tensors import Tensors, with_local_layers
    from fedcli.models.weights import initial_tensors

    model = initial_tensors(
        start.model,
        num_classes=len(info.dataset.classes),
        shape=info.dataset.shape,
        seed=start.seed,
        init_from=start.init_from,
        pretrained=start.pretrained,
        own_factory=start.own_factory,
    )
    plan = with_local_layers(info.plan.train, model.module)
    away = Tensors.of(plan, model.tensors, model.roles, model.tied).withheld
    sizes = [array.size for name, array in model.tensors.items() if name not in away]
    check_held(info.plan, plan, model.roles, sum(sizes))
    return model


def inputs_of(info: RunInfo) -> dict[str, Any]:
    """Return what the network of a run is given, as results of commands name it."""
    return {
        "mean": info.dataset.mean,
        "std": info.dataset.std,
        "transform_input": bool(info.model.transform_input),
    }


def write_round_zero(run: Run, model: "InitialModel", key: SigningKey | None = None) -> None:
    """Write the starting model; sign it if the coordinator's key is given."""
    from fedcli.client.rebuild import can_be_drawn, start_metadata, write_start_delta

    metadata = start_metadata(run, model)
    with checkpoint.prepare(run.round(0).global_model, model.tensors, metadata) as written:
        if key is not None:
            sign_global(run, run.round(0), written.sha256, None, key)
        if run.info.plan.aggregate.downlink and can_be_drawn(run.info):
            write_start_delta(run, metadata, written.sha256)
