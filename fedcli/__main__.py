"""``python -m fedcli`` is the same program as ``fedcli``, which starts here."""

import os
import sys
from typing import NoReturn

_COMPLETE = "_FEDCLI_COMPLETE"  # a shell sets it when the Tab key is pressed


def main() -> NoReturn:
    """Answer a shell that completes a line, or else run the command line of this process."""
    if _COMPLETE in os.environ:
        from fedcli.completion.shells import answer

        if (answered := answer(os.environ)) is not None:
            text, status = answered
            sys.stdout.buffer.write(f"{text}\n".encode())
            sys.exit(status)
    from fedcli.cli import main as run

    run()


if __name__ == "__main__":
    main()
