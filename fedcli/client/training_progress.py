"""What is said, recorded and kept while a client trains."""

from fedcli.client.private import PrivateStep
from fedcli.client.resume import TrainingCheckpoint
from fedcli.client.session import Session
from fedcli.progress import Progress
from fedcli.run.heartbeat import HeartbeatWriter
from fedcli.training.devices import peak_memory
from fedcli.training.loop import Epoch, Observer, Stage, Trainer


def observer_of(
    session: Session,
    client: str,
    interrupted: TrainingCheckpoint,
    private: PrivateStep | None,
    heartbeat: HeartbeatWriter,
) -> Observer:
    """Return what watches the training: heartbeats, lines of progress, training checkpoints."""
    progress, every = session.progress, session.execution.checkpoint_every
    begun: set[str] = set()

    def on_batch(stage: Stage, number: int, images_per_second: float) -> None:
        if heartbeat.due:
            heartbeat.update(
                epoch=number,
                epochs=stage.epochs,
                images_per_second=None if session.withholds else images_per_second,
                memory_bytes=None if session.withholds else peak_memory(session.device),
            )

    def on_epoch(trainer: Trainer, stage: Stage, epoch: Epoch) -> None:
        if every is not None and trainer.epochs_done % every == 0 and not trainer.at_end:
            if private is not None:
                private.charge()
            interrupted.write(trainer)
        if stage.name not in begun:
            begun.add(stage.name)
            label = " ".join(filter(None, (f"client {client}", stage.name)))
            progress.start(label, stage.epochs - epoch.epoch + 1)
        progress.advance()
        progress.say(
            f"client {client}  {stage.name + '  ' if stage.name else ''}"
            f"epoch {epoch.epoch}/{stage.epochs}  loss {epoch.loss:.4f}"
            f"  accuracy {epoch.accuracy:.1%}  {epoch.examples / epoch.seconds:.0f} images/s"
        )

    return Observer(on_epoch, on_batch)


def say_shrink(progress: Progress, client: str, size: int) -> None:
    """Say that training goes on with this micro-batch, for which memory is enough."""
    progress.say(
        f"client {client}: out of memory; continuing with {size} examples at a time"
        f" (next time: --micro-batch {size})"
    )
