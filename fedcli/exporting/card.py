"""The model card: what the files of a run say about an exported model, as Markdown.

The idea is from Mitchell et al. 2019, "Model Cards for Model Reporting". What no file can say, such
as what the model is fit for, is left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedcli.exporting.commands import commands
from fedcli.exporting.history import Link, RoundHistory, clients_of, stretches
from fedcli.formats.evaluation import Score
from fedcli.formats.partition import PartitionFile
from fedcli.reporting.documents import environment
from fedcli.reporting.layout import UNKNOWN
from fedcli.reporting.markdown import escape
from fedcli.reporting.rules import rule_label
from fedcli.reporting.words import rounds_named
from fedcli.run import Run
from fedcli.run.info import ModelInfo, RunInfo
from fedcli.text import WITHHELD, listed, printable

if TYPE_CHECKING:
    from markupsafe import Markup

_MOST_CLIENTS = 100  # that are listed one by one
_GONE = "no longer in the run"

Row = tuple[object, ...]


@dataclass(frozen=True)
class ExportedFile:
    """An exported file, and the global model of the run that it was made from.

    ``format`` is ``safetensors``, ``torch`` or ``onnx``. ``merged`` says whether LoRA adapters were
    merged into the weights. ``numbers`` counts the values in all tensors. ``versions`` are those of
    the programs that wrote the file.
    """

    name: str
    format: str
    sha256: str
    bytes: int
    round: int
    model_sha256: str
    merged: bool
    tensors: int
    numbers: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Facts:
    """What the run says about the model; ``scores`` are of exactly this model."""

    run: Run
    rounds: Sequence[RoundHistory]
    chain: Sequence[Link]
    scores: Sequence[Score]
    partition: PartitionFile | None


def card(file: ExportedFile, facts: Facts) -> str:
    """Return the card as Markdown that ends with a newline."""
    templates = environment("fedcli.exporting", _markdown)
    templates.filters |= {"figure": _figure, "scored_on": _scored_on}
    run, rounds = facts.run, list(facts.rounds)
    clients = clients_of(rounds)
    return templates.get_template("model_card.md.j2").render(
        title=file.name.rpartition(".")[0],
        file=file,
        run=run,
        dataset=run.info.dataset,
        network=_network(run.info.model),
        normalisation=_normalisation(file, run.info),
        scores=facts.scores,
        data=list(_data(facts)),
        simulated=_is_simulated(run),
        training=[_training(stretch) for stretch in stretches(rounds)],
        clients=[
            (client, WITHHELD if examples is None else examples, number)
            for client, (number, examples) in clients.items()
        ],
        sizes=[examples for _, examples in clients.values()],
        most_clients=_MOST_CLIENTS,
        chain=_chain(facts),
        commands=commands(run, rounds),
    )


def _markdown(value: object) -> "Markup":
    """Escape a value for Markdown, in one line, unless it is Markdown already."""
    from markupsafe import Markup

    return value if isinstance(value, Markup) else Markup(escape(printable(str(value))))


def _network(model: ModelInfo) -> str:
    network = model.name
    if model.name == "resnet18":
        network += f", stem {model.stem}, norm {model.norm}"
    if model.lora is not None:
        network += f", trained with LoRA of rank {model.lora} (scale {model.lora_scale:g})"
    return network


def _normalisation(file: ExportedFile, info: RunInfo) -> str:
    dataset = info.dataset
    if dataset.dtype != "uint8":
        return "none: values are used as they are"
    mean, std = (", ".join(f"{value:g}" for value in of) for of in (dataset.mean, dataset.std))
    formula = f"(x / 255 - mean) / std of pixels x from 0 to 255, mean {mean}, std {std}"
    if dataset.window is not None:
        low, high = dataset.window
        formula = (
            f"{formula}, where x = round(255 * (clip(v, {low:.15g}, {high:.15g}) - {low:.15g}) /"
            f" {high - low:.15g}) of the values v in the files"
        )
    if len(dataset.mean) > 1:
        formula += " (red, green, blue)"
    if file.format == "onnx":
        return f"in the graph, which takes the pixels: {formula}"
    grey = dataset.shape[0] == 1 and info.model.name not in ("cnn", "linear")
    repeated = "; the grey channel is then repeated three times" if grey else ""
    return f"before the network: {formula}{repeated}"


def _figure(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4f}"


def _scored_on(score: Score) -> str:
    whose = "" if score.data_client is None else f" of client {score.data_client}"
    only = "" if score.classes is None else f", only {listed(score.classes)}"
    names = {
        "test": "the run's test set",
        "client-test": "the test examples",
        "validation": "the held-out examples",
    }
    return f"{names.get(score.data, score.data)}{whose}{only}"


def _is_simulated(run: Run) -> bool:
    return run.info.origin.get("step") == "partition"


def _data(facts: Facts) -> Iterator[Row]:
    info, origin = facts.run.info, facts.run.info.origin
    yield "data set", info.dataset.name
    for key, value in origin.get("data", {}).items():
        yield key.replace("_", " "), value
    if not _is_simulated(facts.run):
        return
    yield "cut into clients", f"{origin['scheme']}: {_options(origin['parameters'].items())}"
    if origin.get("val_fraction"):
        yield "held out of each client", origin["val_fraction"]
    if facts.partition is not None:
        yield "training examples", sum(map(sum, facts.partition.label_counts.values()))
        yield "test examples", sum(facts.partition.test_label_counts)


def _options(options: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in options)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_plain, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _training(stretch: Sequence[RoundHistory]) -> Row:
    """Describe a stretch of rounds that share their options."""
    last = stretch[-1]
    rounds = rounds_named(one.round for one in stretch).partition(" ")[2]
    rule = UNKNOWN if last.manifest is None else rule_label(last.manifest)
    trainings = [_options(sorted(training.items())) for training in last.trainings]
    counts = sorted({one.clients for one in stretch if one.clients is not None})
    ends = dict.fromkeys(map(str, (counts[0], counts[-1]))) if counts else (UNKNOWN,)
    return rounds, rule, "; or ".join(trainings) or _GONE, "–".join(ends)


def _chain(facts: Facts) -> list[Row]:
    clients = {history.round: history.clients for history in facts.rounds}
    return [
        (link.round, link.sha256 or _GONE, clients.get(link.round) or UNKNOWN)
        for link in facts.chain
    ]
