"""The steps: one public function per command, with the command's name.

A step takes and returns plain typed values; it neither prints nor ends the process. Each has a
module of its own, so that ``fedcli.steps.aggregate`` does not import torch::

    from fedcli.run import Run
    from fedcli.steps.aggregate import aggregate

    result = aggregate(Run.open(Path("fedrun")), round_number=3)
"""
