"""Data types of tensors and columns, and the numpy arrays that hold them.

A tensor is a numpy array; there is no wrapper type. `STRING` holds text (object array of `str` or
None), `BYTES` holds raw bytes (object array of `bytes`); on the wire both are the Open Inference
`BYTES`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class DataType(StrEnum):
    """The Open Inference data types, and STRING for text."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"
    STRING = "STRING"

    @property
    def is_float(self) -> bool:
        """Whether it is FP16, FP32 or FP64, the types whose null is NaN."""
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        """Whether it is one of the signed or unsigned integer types."""
        return self in _INTEGERS

    @property
    def is_numeric(self) -> bool:
        """Whether it is a float, an integer or BOOL."""
        return self not in _OBJECTS

    @property
    def wire_name(self) -> str:
        """The Open Inference name: STRING travels as BYTES."""
        return "BYTES" if self is DataType.STRING else self.value


_FLOATS = frozenset({DataType.FP16, DataType.FP32, DataType.FP64})
_INTEGERS = frozenset(t for t in DataType if "INT" in t.value)
_OBJECTS = frozenset({DataType.BYTES, DataType.STRING})

NUMPY_OF: dict[DataType, np.dtype[Any]] = {
    DataType.BOOL: np.dtype(np.bool_),
    DataType.UINT8: np.dtype(np.uint8),
    DataType.UINT16: np.dtype(np.uint16),
    DataType.UINT32: np.dtype(np.uint32),
    DataType.UINT64: np.dtype(np.uint64),
    DataType.INT8: np.dtype(np.int8),
    DataType.INT16: np.dtype(np.int16),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
    DataType.FP16: np.dtype(np.float16),
    DataType.FP32: np.dtype(np.float32),
    DataType.FP64: np.dtype(np.float64),
    DataType.BYTES: np.dtype(object),
    DataType.STRING: np.dtype(object),
}
"""The numpy dtype that holds each data type."""

_OF_NUMPY = {dtype: kind for kind, dtype in NUMPY_OF.items() if kind.is_numeric}


def data_type_of(array: Array) -> DataType:
    """The data type that an array holds.

    Object and numpy text arrays count as STRING unless their first non-null element is `bytes`.

    Raises:
        TypeError: the dtype (complex, datetime, structured …) has no data type.
    """
    kind = _OF_NUMPY.get(array.dtype) or _OF_NUMPY.get(array.dtype.newbyteorder("="))
    if kind is not None:
        return kind
    if array.dtype.kind in "OUS":
        first = next((item for item in array.ravel() if item is not None), "")
        return DataType.BYTES if isinstance(first, bytes) else DataType.STRING
    raise TypeError(f"arrays of dtype `{array.dtype}` have no Open Inference data type")


def null_mask(array: Array) -> npt.NDArray[np.bool_]:
    """Where the array holds a null: NaN in floats, None in objects; same shape."""
    if array.dtype.kind == "f":
        return np.isnan(array)
    if array.dtype != object:
        return np.zeros(array.shape, dtype=np.bool_)
    return np.array([item is None for item in array.ravel()], dtype=np.bool_).reshape(array.shape)
