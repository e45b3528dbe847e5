"""The history of runs for experiment trackers: TensorBoard, MLflow and Weights & Biases.

``history`` is what every tracker is given; each tracker is one file. Their libraries are imported
only when one of them is used.
"""
