"""Secure aggregation: masks that cancel in the sum, and shares that open what drop-outs left.

After Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning",
in two phases, with long-lived keys in place of rounds of messages.
"""
