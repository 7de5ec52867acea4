"""Reading a trace: delimiters, headers, units, and lines that are broken."""

from __future__ import annotations

import gzip
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.modules import load

trace = load("playbooks/workloads/files/trace_lines.py", "trace_lines")


@pytest.fixture
def write(tmp_path):
    def make(text: str | bytes, name: str = "trace.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


def read(file, **given):
    broken = trace.Broken()
    return list(trace.times(file, trace.examine(file, **given), broken)), broken


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
def test_the_delimiter_is_found(write, delimiter):
    layout = trace.examine(write(f"5{delimiter}a b:c{delimiter}d\n1{delimiter}e{delimiter}\n"))
    assert (layout.delimiter, layout.width) == (delimiter, 3)


@pytest.mark.parametrize(("given", "found"), [("space", " "), ("tab", "\t"), ("#", "#")])
def test_a_delimiter_can_be_given(write, given, found):
    file = write(f"1700000000{found}a,b\n1700000001{found}c,d\n")
    assert trace.examine(file, delimiter=given).delimiter == found


def test_a_trace_of_times_alone(write):
    found, broken = read(write("3\n1\n2\n"))
    assert [at for at, _, _ in found] == [3 * 10**9, 10**9, 2 * 10**9] and not broken.count


@pytest.mark.parametrize(
    ("text", "names", "column"),
    [
        ("time,user\n5,a\n", ("time", "user"), 0),
        ("user,Timestamp\nu1,5\n", ("user", "Timestamp"), 1),
        ("1,user\n5,a\n", (), 0),
        ("when,user\n2026-01-01T00:00:00Z,a\n", ("when", "user"), 0),
    ],
)
def test_a_header_is_told_from_a_line(write, text, names, column):
    layout = trace.examine(write(text))
    assert (layout.names, layout.time) == (names, column)


def test_a_column_is_a_name_or_a_number(write):
    layout = trace.examine(write("a,b,c\nx,y,5\n"), time="c")
    assert layout.time == layout.index("c") == layout.index("3") == 2
    with pytest.raises(trace.TraceError, match=r"no column 'd': the trace has 3 \(a, b, c\)"):
        layout.index("d")
    with pytest.raises(trace.TraceError, match="no column '4'"):
        layout.index("4")


@pytest.mark.parametrize(
    ("value", "unit", "ns"),
    [
        ("1700000000", "s", 1700000000 * 10**9),
        ("1700000000.123456789", "s", 1700000000123456789),
        ("1700000000123", "ms", 1700000000123 * 10**6),
        ("1700000000123.5", "ms", 1700000000123500000),
        ("1700000000123456", "us", 1700000000123456000),
        ("1700000000123456789", "ns", 1700000000123456789),
        ("0.25", "s", 250_000_000),
        ("1.7e9", "s", 1700000000 * 10**9),
        ("2023-11-14T22:13:20Z", "iso", 1700000000 * 10**9),
        ("2023-11-14 23:13:20.5+01:00", "iso", 1700000000500000000),
        ("2023-11-14 22:13:20", "iso", 1700000000 * 10**9),
    ],
)
def test_the_unit_is_found_by_form_and_magnitude(write, value, unit, ns):
    file = write(f"{value}\ta\n{value}\tb\n")
    assert trace.examine(file).unit == unit
    assert [at for at, _, _ in read(file)[0]] == [ns, ns]


def test_a_format_of_strptime(write):
    found, _ = read(write("14/Nov/2023:22:13:20 +0000;a\n"), unit="%d/%b/%Y:%H:%M:%S %z", delimiter=";")
    assert [at for at, _, _ in found] == [1700000000 * 10**9]


@given(st.integers(-(10**19), 10**19))
def test_every_unit_reads_every_time_exactly(ns):
    for unit, factor in trace.PER_UNIT.items():
        assert trace.clock(unit)(format(Decimal(ns) / factor, "f")) == ns


@pytest.mark.parametrize("text", ["", "abc", "nan", "inf", "1e400", "1.2.3", "0x10"])
def test_what_is_no_time(text):
    for unit in trace.PER_UNIT:
        with pytest.raises(ValueError):
            trace.clock(unit)(text)


def test_broken_lines_are_counted_and_the_first_are_shown(write):
    bad = ["5,b,c", "x,b", '6,"b', "7,\udcff", "99999999999999,b"]
    text = "time,user\n1,a\n" + "\n".join(bad) + "\n\n" + "y,z\n" * 20 + '2,"a,b"\n'
    found, broken = read(write(text.encode(errors="surrogateescape")), unit="s")
    assert [(number, line) for _, number, line in found] == [(2, "1,a"), (29, '2,"a,b"')]
    assert broken.count == 25 and len(broken.first) == trace.SHOWN
    assert broken.first[0] == "trace.csv:3: 3 fields, expected 2: '5,b,c'"
    assert broken.first[1] == "trace.csv:4: 'x' is no time in s: 'x,b'"
    assert "trace.csv:5: its quotes do not pair" in broken.first[2]
    assert "trace.csv:6: it is no UTF-8" in broken.first[3]
    assert "trace.csv:7: '99999999999999' is no time" in broken.first[4]


def test_quotes_between_tabs_are_characters(write):
    found, broken = read(write('1\t"a\n2\tb"\n'))
    assert len(found) == 2 and not broken.count


@pytest.mark.parametrize("name", ["trace.tsv", "trace.tsv.gz"])
def test_line_ends_and_compression(write, name):
    text = b"\xef\xbb\xbftime\tuser\r\n1\ta\r\n2\tb"
    file = write(gzip.compress(text) if name.endswith(".gz") else text, name)
    assert [line for _, _, line in read(file)[0]] == ["1\ta", "2\tb"]


@pytest.mark.parametrize(
    ("text", "given", "told"),
    [
        ("", {}, "has no lines"),
        ("time,user\n", {"header": "yes"}, "has no line besides its header"),
        ("yesterday,a\ntoday,b\n", {}, "column 1 has no time that can be told by itself"),
        ("1,a\n", {"unit": "hours"}, "--unit: 'hours' is no unit"),
        ("1,a\n", {"delimiter": "::"}, "--delimiter: '::' is not one character"),
        ("1,a\n", {"time": "when"}, "there is no column 'when'"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(write, text, given, told):
    with pytest.raises(trace.TraceError, match=told):
        read(write(text), **given)


def test_a_file_that_is_not_there_or_cut(tmp_path, write):
    with pytest.raises(trace.TraceError, match="cannot be read: No such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(trace.TraceError, match="cannot be read to its end"):
        read(write(gzip.compress(b"1,a\n" * 1000)[:40], "cut.csv.gz"))
