"""Partition the training examples of a data set into clients.

A partitioner sees the labels and groups of examples, never the examples themselves.
"""

from fedcli.partitioning.counts import label_counts, stratified_sample
from fedcli.partitioning.features import Change, Place
from fedcli.partitioning.heterogeneity import heterogeneity
from fedcli.partitioning.labels import label_lists
from fedcli.partitioning.partitioners import PARTITIONERS, Partitioner
from fedcli.partitioning.pool import Cut, Indices, Labels, Pool, Rng
from fedcli.partitioning.schemes import Scheme, cut, feature_change, scheme_for, scheme_options

__all__ = [
    "PARTITIONERS",
    "Change",
    "Cut",
    "Indices",
    "Labels",
    "Partitioner",
    "Place",
    "Pool",
    "Rng",
    "Scheme",
    "cut",
    "feature_change",
    "heterogeneity",
    "label_counts",
    "label_lists",
    "scheme_for",
    "scheme_options",
    "stratified_sample",
]
