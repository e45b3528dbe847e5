"""``python -m fedcli`` is the same program as ``fedcli``."""

from fedcli.cli import main

if __name__ == "__main__":
    main()
