"""The run directory and its rounds: their files and who takes part."""

from fedcli.run.directory import DEFAULT_RUN, Run

__all__ = ["DEFAULT_RUN", "Run"]
