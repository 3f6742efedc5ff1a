"""The column `classes` of a shard as flat arrays."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class ClassTable:
    """The column `classes` of one shard, flat: one value a class and picture. `row` is the position in the shard."""

    row: np.ndarray
    class_id: np.ndarray
    pixels: np.ndarray
    values: dict[str, np.ndarray]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "ClassTable":
        lists = column.combine_chunks()
        lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        flat = lists.flatten()
        values = {
            field.name: flat.field(field.name).to_numpy(zero_copy_only=False)
            for field in flat.type
            if pa.types.is_float64(field.type)
        }
        return cls(
            row=np.repeat(np.arange(len(lengths)), lengths),
            class_id=flat.field("class_id").to_numpy(zero_copy_only=False),
            pixels=flat.field("pixels").to_numpy(zero_copy_only=False),
            values=values,
        )
