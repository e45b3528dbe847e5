"""What private runs withhold: whatever tells of a client's data and is not covered by noise."""

from dataclasses import replace

from fedcli.formats.metadata import Metadata
from fedcli.formats.telemetry import Telemetry


def without_steps(metadata: Metadata) -> Metadata:
    """Return metadata without the number of steps and their length, which follow from examples."""
    training = replace(metadata.training, steps=None, normalized_steps=None)
    return replace(metadata, training=training)


def without_figures(measured: Telemetry) -> Telemetry:
    """Return telemetry without figures of a client's data.

    Losses and accuracies are computed from it without noise. Times, speeds and the memory of a
    process that holds all examples grow with their number.
    """
    return replace(
        measured,
        num_examples=None,
        images_per_second=None,
        seconds=None,
        skipped=None,
        peak_memory_bytes=None,
        epochs=(),
        personal_epochs=(),
    )
