"""``topk=F``: the largest steps as floats. Stich, Cordonnier, Jaggi (2018), "Sparsified SGD"."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedcli.codecs.base import (
    CHUNK,
    Chunk,
    Encoded,
    Positions,
    Steps,
    Table,
    Vector,
    check_finite,
    largest,
    split,
)
from fedcli.codecs.floats import dtype_of, read_floats, write_floats
from fedcli.codecs.sparse import COLUMNS, SparseCodec, code_places, place_lengths, read_places


@dataclass(frozen=True)
class TopK(SparseCodec):
    """Send the ``share`` of the coordinates with the largest steps, in ``dtype``."""

    share: float
    dtype: str = "float32"

    name: ClassVar[str] = "topk"
    columns: ClassVar[int] = COLUMNS

    def encode(self, steps: Steps, vector: Vector) -> Encoded:
        """See ``Codec``."""
        check_finite(steps)
        positions = largest(steps, vector.share(self.share))
        rows, pieces = [], []
        for index, part in enumerate(split(positions, vector)):
            places = code_places(positions[part], index * CHUNK)
            rows.append(places.row)
            pieces += [places.data, write_floats(steps[positions[part]], self.dtype)]
        table = np.array(rows, np.int32).reshape(vector.chunks, self.columns)
        return Encoded(table, np.concatenate(pieces), np.zeros(0, np.float32))

    def lengths(self, table: Table, vector: Vector) -> NDArray[np.int64]:
        """See ``Codec``."""
        values = table[:, 0].astype(np.int64) * dtype_of(self.dtype).itemsize
        return place_lengths(table, vector) + values

    def scale_count(self, vector: Vector) -> int:
        """Return 0: values are sent as they are."""
        return 0

    def sent(self, chunk: Chunk) -> tuple[Positions, Steps]:
        """See ``SparseCodec``."""
        places, values = read_places(chunk)
        steps = read_floats(values, self.dtype)
        check_finite(steps)
        return places, steps
