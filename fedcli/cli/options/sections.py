"""The options that sections of the plan declare, as commands take them.

A section is imported when the command that takes its options is built, and not before.
"""

from collections.abc import Mapping
from typing import Annotated

from fedcli.cli.options.groups import Takes
from fedcli.options import Declared, Given, declared

_NOISE_ON_BATCHES = (
    *("batch_size", "epochs", "steps", "noise_multiplier"),
    *("target_epsilon", "target_rounds", "delta"),
)
_NOISE_ON_SUMS = ("update_noise", "relation")


def _training() -> Mapping[str, Declared]:
    from fedcli.plan.train import TRAIN_OPTIONS

    return TRAIN_OPTIONS


def _aggregation() -> Mapping[str, Declared]:
    from fedcli.plan.rule import aggregate_options

    return aggregate_options()


def _noise() -> Mapping[str, Declared]:
    """What the privacy of a plan depends on."""
    from fedcli.plan.aggregate import AggregatePlan
    from fedcli.plan.train import TRAIN_OPTIONS

    of_clients = {name: declared(AggregatePlan)[name] for name in _NOISE_ON_SUMS}
    return {**{name: TRAIN_OPTIONS[name] for name in _NOISE_ON_BATCHES}, **of_clients}


def _sampling() -> Mapping[str, Declared]:
    from fedcli.plan.aggregate import SAMPLING, AggregatePlan

    return {name: declared(AggregatePlan)[name] for name in SAMPLING}


def _execution() -> Mapping[str, Declared]:
    from fedcli.plan.execution import Execution

    return declared(Execution)


def _passed_on() -> Mapping[str, Declared]:
    from fedcli.experiment.sections import passed_on

    return passed_on()


def _running() -> Mapping[str, Declared]:
    from fedcli.experiment.sections import Running

    return declared(Running)


def _place() -> Mapping[str, Declared]:
    from fedcli.execution.place import Place

    return declared(Place)


def _taking_part() -> Mapping[str, Declared]:
    from fedcli.experiment.sections import TakingPart

    return declared(TakingPart)


def _stopping() -> Mapping[str, Declared]:
    from fedcli.plan.stopping import Stopping

    return declared(Stopping)


def _seed() -> Mapping[str, Declared]:
    from fedcli.experiment.sections import RunSeed

    return declared(RunSeed)


def _machine() -> Mapping[str, Declared]:
    from fedcli.plan.execution import Machine

    return declared(Machine)


def _data() -> Mapping[str, Declared]:
    from fedcli.setup.data_source import data_options

    return data_options()


def _reading() -> Mapping[str, Declared]:
    from fedcli.datasets.own import reading_options

    return reading_options()


def _checked() -> Mapping[str, Declared]:
    from fedcli.datasets import DATASETS
    from fedcli.datasets.base import DataOptions

    own = declared(DataOptions)
    return {
        **{name: own[name] for name in ("image_size", "window", "data_dir", "download")},
        **DATASETS["imagefolder"].declared,
        **DATASETS["npz"].declared,
    }


def _scheme() -> Mapping[str, Declared]:
    from fedcli.partitioning.schemes import scheme_options

    return scheme_options()


def _masking() -> Mapping[str, Declared]:
    from fedcli.plan.secagg import SecaggOptions

    return declared(SecaggOptions)


def _model() -> Mapping[str, Declared]:
    from fedcli.run.info import ModelInfo
    from fedcli.setup.start import Start

    return {**declared(ModelInfo), **declared(Start)}


def noise_of(typed: Given) -> tuple[Given, Given]:
    """Return options of training and of aggregation that add the noise which was typed.

    The norms that noise is a multiple of do not matter for what it costs, and are 1.
    """
    training = {key: value for key, value in typed.items() if key in _NOISE_ON_BATCHES}
    if training.keys() & {"noise_multiplier", "target_epsilon"}:
        training = {"dp": "example", "clip": 1.0, **training}
    else:
        training.pop("delta", None)
    rule = {key: value for key, value in typed.items() if key in _NOISE_ON_SUMS}
    return training, {"update_clip": 1.0, **rule} if "update_noise" in rule else rule


TrainingOptions = Annotated[Given, Takes(_training, "Training")]
AggregationOptions = Annotated[Given, Takes(_aggregation, "Aggregation")]
NoiseOptions = Annotated[Given, Takes(_noise, "Privacy")]
SamplingOptions = Annotated[Given, Takes(_sampling)]
ExecutionOptions = Annotated[Given, Takes(_execution, "Execution")]
PassedOnOptions = Annotated[Given, Takes(_passed_on, "Execution")]
MachineOptions = Annotated[Given, Takes(_machine)]
DataOptions = Annotated[Given, Takes(_data, "Data")]
ReadingOptions = Annotated[Given, Takes(_reading, "Data")]
CheckOptions = Annotated[Given, Takes(_checked, "Data")]
SchemeOptions = Annotated[Given, Takes(_scheme, "Cutting")]
ModelOptions = Annotated[Given, Takes(_model, "Model")]
MaskingOptions = Annotated[Given, Takes(_masking, "Secure aggregation")]
RunningOptions = Annotated[Given, Takes(_running)]
PlaceOptions = Annotated[Given, Takes(_place, "Elsewhere")]
TakingPartOptions = Annotated[Given, Takes(_taking_part)]
StoppingOptions = Annotated[Given, Takes(_stopping)]
SeedOptions = Annotated[Given, Takes(_seed)]
