"""``python -m support MODULE ARGUMENTS…``: what a fork becomes, by the name of its module."""

import importlib
import sys

if __name__ == "__main__":
    importlib.import_module(f"support.{sys.argv.pop(1)}").main()
