"""The step of ``fedcli train-client``."""

from fedcli.client.train import ClientResult, TrainClientResult, train_client

__all__ = ["ClientResult", "TrainClientResult", "train_client"]
