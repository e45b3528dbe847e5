"""What a run starts from: its model and weights, their normalisation, the plan and the seed."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from fedcli.errors import UsageError
from fedcli.formats import checkpoint
from fedcli.options import check, check_seed, option
from fedcli.plan import Plan
from fedcli.plan.secagg import SecaggOptions
from fedcli.run.info import ModelInfo
from fedcli.run.normalization import NORMALIZATIONS, Constants, for_channels
from fedcli.security.noise_key import read_noise_key
from fedcli.setup.preprocessing import preprocessing_of


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
