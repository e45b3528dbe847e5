"""The step of ``fedcli train-client``."""

from fedcli.client.train import ClientResult, Execution, TrainClientResult, train_client

__all__ = ["ClientResult", "Execution", "TrainClientResult", "train_client"]
