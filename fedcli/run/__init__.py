"""The run directory and its rounds: who takes part, which files, when."""

from fedcli.run.directory import DEFAULT_RUN, Run

__all__ = ["DEFAULT_RUN", "Run"]
