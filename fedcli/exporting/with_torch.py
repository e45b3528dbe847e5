"""Exports that need torch: its own format, and the network as an ONNX graph."""

import importlib.util
import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedcli.errors import MissingDependencyError, UsageError
from fedcli.formats.dtypes import Array
from fedcli.models import build, takes_rgb
from fedcli.models.generators import seeded_generators
from fedcli.models.weights import load_arrays, to_tensors
from fedcli.run.info import RunInfo
from fedcli.training.augmentation import Normalize
from fedcli.user_code import in_one_line

INPUT, OUTPUT = "x", "logits"
_PACKAGES = ("onnx", "onnxscript")
_LARGEST = 2**31 - 1  # bytes, of a protobuf message


def saved(weights: Mapping[str, Array]) -> bytes:
    """Return a state_dict as ``torch.save`` writes it; ``weights_only=True`` loads it."""
    buffer = io.BytesIO()
    torch.save(dict(sorted(to_tensors(weights).items())), buffer)
    return buffer.getvalue()


class WithNormalization(nn.Module):
    """A network whose input is examples as a run stores them."""

    def __init__(self, network: nn.Module, normalize: Normalize) -> None:
        super().__init__()
        self.network = network
        self._normalize = normalize

    def forward(self, x: Tensor) -> Tensor:
        """Map uint8 (N, C, H, W), or float32 (N, …), to logits (N, classes)."""
        logits: Tensor = self.network(self._normalize(x))
        return logits


def check_onnx() -> None:
    """Raise ``MissingDependencyError`` if a package that torch needs for ONNX is missing."""
    for name in _PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise MissingDependencyError(
                f"--format onnx: needs the package {name}, which is not installed",
                hint="pip install 'fedcli[onnx]'",
            )


def as_onnx(
    info: RunInfo,
    weights: Mapping[str, Array],
    notes: Mapping[str, str],
    path: Path,
    own: str | None,
) -> bytes:
    """Return an ONNX model from examples as the run stores them to logits, for any batch size.

    ``weights`` are without adapters; ``path`` is where they come from. Raises
    ``MissingDependencyError``, ``UsageError`` and ``BadInputError``.
    """
    check_onnx()
    shape, classes = info.dataset.shape, len(info.dataset.classes)
    network = build(
        replace(info.model, lora=None, lora_alpha=None), classes, shape, own=own, seed=info.seed
    )
    load_arrays(network, weights, path)
    normalize = Normalize.for_dataset(
        info.dataset, as_rgb=takes_rgb(info.model), device=torch.device("cpu")
    )
    example = torch.zeros(2, *shape, dtype=getattr(torch, info.dataset.dtype))
    graph = _exported(WithNormalization(network, normalize).eval(), example)
    _remove_source_locations(graph)
    for key, value in notes.items():
        graph.metadata_props.add(key=key, value=value)
    if graph.ByteSize() > _LARGEST:
        raise UsageError("--format onnx: the model is larger than 2 GB, which is too much for ONNX")
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


def _exported(module: nn.Module, example: Tensor) -> Any:
    """Return the graph that torch exports, an ``onnx.ModelProto``."""
    try:
        # torch reports its progress on standard output.
        with seeded_generators(0), redirect_stdout(io.StringIO()):
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
    except Exception as error:
        raise UsageError(
            f"--format onnx: torch cannot export this network: {in_one_line(error)}",
            hint="--format torch or safetensors exports its weights",
        ) from error
    assert program is not None
    return program.model_proto


def _remove_source_locations(graph: Any) -> None:
    """Remove the source locations of nodes, which hold paths of this machine."""
    for part in _parts(graph):
        del part.metadata_props[:]
        part.ClearField("doc_string")


def _parts(graph: Any) -> Iterator[Any]:
    for one in (graph.graph, *graph.functions):
        yield one
        for group in ("node", "input", "output", "value_info", "initializer"):
            for part in getattr(one, group, ()):
                if hasattr(part, "metadata_props"):
                    yield part
