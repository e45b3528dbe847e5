"""Partition the training examples of a data set into clients.

A partitioner sees the labels and groups of examples, never the examples themselves.
"""
