"""Score a network on examples."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fedcli.errors import BadInputError
from fedcli.evaluation.metrics import Scores, score
from fedcli.formats.dtypes import Array
from fedcli.models import build, takes_rgb
from fedcli.models.generators import seeded_generators
from fedcli.models.weights import load_arrays
from fedcli.randomness import stream_seed
from fedcli.run.info import RunInfo
from fedcli.training.augmentation import Normalize
from fedcli.training.devices import Portions, choose_device, out_of_memory_as_error, set_threads
from fedcli.training.forward import predict

Labels = NDArray[np.int64]
Outputs = tuple[Tensor, Labels]

BATCH = 256  # larger batches are no faster on a CPU


class Scorer:
    """A run's network, into which the models to score are loaded one after another."""

    def __init__(
        self, info: RunInfo, *, device: str, threads: int | None, own_model: str | None
    ) -> None:
        self.classes = info.dataset.classes
        self._seed = stream_seed(info.seed, "evaluation")
        self.device = choose_device(device)
        set_threads(threads)
        self._module = build(
            info.model, len(self.classes), info.dataset.shape, own=own_model, seed=info.seed
        )
        self._normalize = Normalize.for_dataset(
            info.dataset, as_rgb=takes_rgb(info.model), device=self.device
        )

    def load(self, tensors: Mapping[str, Array], path: Path) -> None:
        """Load the weights of a checkpoint. Raises ``BadInputError`` if they do not fit."""
        load_arrays(self._module, tensors, path)
        self._path = path

    def outputs(self, x: Array, y: Labels) -> Outputs:
        """Return the logits (N, classes) of at least one example, with the labels.

        Raises ``BadInputError`` for logits that are not finite, and ``OutOfMemoryError``.
        """
        with out_of_memory_as_error("score on the CPU: --device cpu"):
            module = self._module.to(self.device).to(memory_format=torch.channels_last)
            portions = Portions(BATCH, self.device)
            with seeded_generators(self._seed, self.device):
                logits = predict(module, torch.from_numpy(x), self._normalize, portions)
        if not torch.isfinite(logits).all():
            raise BadInputError(
                "its outputs are NaN or infinite: its training diverged", path=self._path
            )
        return logits, y

    def score(self, parts: Sequence[Outputs]) -> tuple[float, Scores]:
        """Return the mean cross-entropy and all scores of the combined outputs."""
        logits, y = torch.cat([part[0] for part in parts]), np.concatenate([p[1] for p in parts])
        loss = F.cross_entropy(logits.double(), torch.from_numpy(y)).item()
        return loss, score(y, logits.numpy(), self.classes)
