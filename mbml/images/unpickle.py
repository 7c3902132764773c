"""Pickles of arrays and plain containers, read without running anything that stands in them.

A pickle is a program: the ordinary loader calls whatever it names. This one knows a handful of
words (how numpy writes arrays) and answers each with its own function below, which builds the
array from checked parts; at any other name it stops before anything was called.
"""

from __future__ import annotations

import pickle
import re
import struct
from io import BytesIO
from typing import Any, ClassVar

import numpy as np

from mbml.images.errors import DataError


def unpickle(data: bytes) -> Any:
    """Dicts, lists, tuples, numbers, strings, bytes and numeric arrays.

    Strings of Python 2 are read as Latin-1, as numpy asks for.

    Raises:
        DataError: if the pickle holds anything else, or is broken.
    """
    try:
        return _Unpickler(BytesIO(data), encoding="latin1").load()
    except DataError:
        raise
    except Exception as error:  # a broken program may stumble over anything
        what = str(error)[:80] or type(error).__name__
        raise DataError(f"not a readable pickle ({what})") from None


class _DType:
    """A dtype under construction: plain numbers, and nothing that refers to objects."""

    def __init__(self, name: Any, align: Any = False, copy: Any = True) -> None:
        name = _text(name)
        if not re.fullmatch(r"[<>|=]?[biuf][1248]", name):
            raise DataError(f"the pickle holds an array of {name[:20]!r}, not of numbers")
        self.numpy = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        self.numpy = self.numpy.newbyteorder({"<": "<", ">": ">"}.get(_text(state[1]), "="))


class _Array(np.ndarray):
    """An array under construction: numpy's own `__setstate__`, with its parts checked first."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        # Raises unless the bytes are just what the shape needs: no size can be made up.
        array = _frombuffer(data, dtype, shape, "F" if fortran else "C")
        super().__setstate__((1, array.shape, array.dtype, bool(fortran), bytes(data)))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise DataError("the pickle holds an array that numpy would not write")
    return value


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    # numpy always writes an empty array first, and fills it by __setstate__.
    if kind is not _NDARRAY or shape != (0,):
        raise DataError("the pickle holds an array that numpy would not write")
    return np.empty(0, np.uint8).view(_Array)


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _DType):
        raise DataError("the pickle holds an array of something else than numbers")
    return np.frombuffer(data, dtype.numpy).reshape(shape, order=order)


def _scalar(dtype: Any, data: Any) -> Any:
    data = data.encode("latin1") if isinstance(data, str) else data
    return _frombuffer(data, dtype, (), "C").item()


def _encode(text: Any, encoding: Any) -> bytes:
    # How Python 3 writes bytes in protocol 2.
    if not isinstance(text, str) or encoding != "latin1":
        raise DataError("the pickle asks for another codec than latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    # How Python 3 writes b"" in protocols 0 to 2: as a call without arguments.
    return b""


_NDARRAY = object()
_WORDS = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}
for _core in ("numpy.core", "numpy._core"):  # the module was renamed in numpy 2
    _WORDS[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _WORDS[f"{_core}.multiarray", "scalar"] = _scalar
    _WORDS[f"{_core}.numeric", "_frombuffer"] = _frombuffer

# Instructions that no pickle of plain data needs: other ways to call, and what cannot be a key.
_REFUSED = (
    "INST OBJ NEWOBJ NEWOBJ_EX EXT1 EXT2 EXT4 PERSID BINPERSID NEXT_BUFFER READONLY_BUFFER "
    "EMPTY_SET ADDITEMS FROZENSET"
)


# Python's own unpickler, not the one in C: there, a memo index of 2^32 takes 64 GB.
class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)  # its own table, from byte to method

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _WORDS:
            raise DataError(f"the pickle is refused: it asks for {module[:40]}.{name[:40]}")
        return _WORDS[module, name]

    def _decode_string(self, value: bytes) -> str | bytes:
        # The pixels of a large array of Python 2 are a string too: two copies less.
        return value if len(value) > 1 << 20 else super()._decode_string(value)

    def load_refused(self) -> None:
        raise DataError("the pickle is refused: it does what plain data do not need")

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], _Array | _DType):
            raise DataError("the pickle is refused: it changes what it did not build")
        super().load_build()

    def load_setitem(self) -> None:
        self._check_keys(self.stack[-3], [self.stack[-2]])
        super().load_setitem()

    def load_setitems(self) -> None:
        self._check_keys(self.metastack[-1][-1], self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        self._check_keys({}, self.stack[::2])
        super().load_dict()

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))  # as much as is there, not as much as it says

    @staticmethod
    def _check_keys(target: Any, keys: list) -> None:
        # The hash of a tuple nested a million times deep overflows the stack of the process.
        if type(target) is not dict or not all(isinstance(k, str | bytes | int) for k in keys):
            raise DataError("the pickle is refused: its dicts need strings or numbers as keys")

    for _name in _REFUSED.split():
        dispatch[getattr(pickle, _name)[0]] = load_refused
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
