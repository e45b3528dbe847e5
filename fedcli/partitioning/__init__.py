"""Cutting the training examples of one data set into clients.

A partitioner sees labels, and where the examples come from; never the examples themselves.
"""
