"""The version of this program, which rooms below the package's face need too."""

__version__ = "0.1.0"
