"""Ask torch about a device in a process of its own: ``-m fedcli.execution.probe DEVICE``.

An entry point, like ``__main__``: ``fedcli run`` must not initialise CUDA in its own process. It
prints one JSON object: ``device`` as a step would choose it, and ``free_memory_bytes`` of a GPU.
"""

import json
import os
import sys
from typing import Any

import torch

from fedcli.errors import FedcliError
from fedcli.training.devices import choose_device


def main() -> None:
    """Answer and end the process."""
    answer: dict[str, Any]
    status = 0
    try:
        device = choose_device(sys.argv[1])
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
        answer = {"device": device.type, "free_memory_bytes": free}
    except FedcliError as error:
        answer = {"error": error.as_json()}
        status = error.status
    print(json.dumps(answer), flush=True)
    os._exit(status)


if __name__ == "__main__":
    main()
