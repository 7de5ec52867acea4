from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labtool.localcloud.cloudwatch import cbor
from labtool.localcloud.cloudwatch.cbor import Stamp

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.floats(0, 4e9).map(Stamp)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5), max_leaves=20
)


@pytest.mark.slow
@given(values)
def test_what_is_encoded_is_decoded_again(value):
    again = cbor.loads(cbor.dumps(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.slow
@given(values)
def test_a_cut_item_is_refused(value):
    encoded = cbor.dumps(value)
    for end in range(len(encoded)):
        with pytest.raises(ValueError, match="malformed CBOR"):
            cbor.loads(encoded[:end])


@given(st.binary(max_size=40))
@example(b"\xa1\x80\x01")  # a list as a key
@example(b"\xc1\x80")  # a list as a time
@example(b"\x7f\x01\xff")  # a number as a part of a text
def test_garbage_is_refused_or_decoded_but_never_crashes(data):
    with contextlib.suppress(ValueError):
        cbor.loads(data)


@pytest.mark.parametrize(
    ("encoded", "value"),
    [  # RFC 8949, appendix A
        ("1bffffffffffffffff", 18446744073709551615),
        ("3903e7", -1000),
        ("f93c00", 1.0),
        ("fa47c35000", 100000.0),
        ("fb3ff199999999999a", 1.1),
        ("c11a514b67b0", Stamp(1363896240)),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("7f657374726561646d696e67ff", "streaming"),
    ],
)
def test_the_standards_own_examples(encoded, value):
    assert cbor.loads(bytes.fromhex(encoded)) == value
