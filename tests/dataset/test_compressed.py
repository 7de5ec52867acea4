from __future__ import annotations

import io
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labtool.dataset import compressed
from labtool.errors import DataError


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=3000))
def test_what_is_written_is_read(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("z") / "a.zst"
    compressed.write(path, content)
    assert compressed.read(path) == content


def test_frames_that_follow_each_other_are_one_file(tmp_path):
    frames = b"".join(
        subprocess.run(["zstd", "-q", "-c"], input=text, capture_output=True, check=True).stdout
        for text in (b"one\ntwo", b"", b" and a half\n")
    )
    (tmp_path / "a.log.zst").write_bytes(frames)
    assert list(compressed.lines(tmp_path / "a.log.zst")) == ["one", "two and a half"]
    target = io.BytesIO()
    assert compressed.expand(io.BytesIO(frames), target) == len(target.getvalue()) == 19


def test_a_plain_file_is_read_as_it_is(tmp_path):
    (tmp_path / "a.log").write_bytes(b"caf\xe9\r\nend")
    assert list(compressed.lines(tmp_path / "a.log")) == ["caf�", "end"]


def test_a_cut_file_is_named(tmp_path):
    path = tmp_path / "a.zst"
    compressed.write(path, bytes(range(256)) * 50)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"a\.zst is no zstd file, or was cut"):
        compressed.read(path)
    with pytest.raises(FileNotFoundError):
        compressed.read(tmp_path / "none.zst")
