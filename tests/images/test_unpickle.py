import pickle
import struct

import numpy as np
import pytest

from mbml.images import DataError
from mbml.images.unpickle import unpickle

PLAIN = {
    "image_data": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 3), np.uint8),
    "scalar": np.int64(7),
    "class_dict": {"n01": [0, 1, np.int64(4)], "text": "é", b"bytes": b"abc", "nothing": b""},
    1: (1, -2.5, None, True, 10**30),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_come_back(protocol):
    data = unpickle(pickle.dumps(PLAIN, protocol))
    assert data.keys() == PLAIN.keys()
    for key in ("image_data", "fortran", "big-endian", "empty"):
        assert np.array_equal(np.asarray(data[key]), PLAIN[key])
        assert data[key].dtype.newbyteorder("=") == PLAIN[key].dtype.newbyteorder("=")
    for key in ("scalar", "class_dict", 1):
        assert data[key] == PLAIN[key]


@pytest.mark.parametrize("size", [4, 2_000_000])
def test_a_pickle_of_python_2(size):
    # {"data": an array of bytes, "labels": [3]}, as Python 2.7 writes it
    array = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    old = (
        b"\x80\x02}q\x00(U\x06labelsq\x01]q\x02K\x03aU\x04dataq\x03cnumpy.core.multiarray\n"
        b"_reconstruct\nq\x04cnumpy\nndarray\nq\x05K\x00\x85U\x01b\x87Rq\x06(K\x01J%s\x85cnumpy\n"
        b"dtype\nq\x07U\x02u1K\x00K\x01\x87Rq\x08(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89T%s%stbu."
    ) % (struct.pack("<i", size), struct.pack("<i", size), array.tobytes())
    data = unpickle(old)
    assert data["labels"] == [3] and np.array_equal(np.asarray(data["data"]), array)


@pytest.mark.parametrize("broken", [b"", b"\x80", b"no pickle at all", b"\x80\x04.", b"(lp0\n"])
def test_what_is_no_pickle_is_one_line(broken):
    with pytest.raises(DataError, match="not a readable pickle"):
        unpickle(broken)
