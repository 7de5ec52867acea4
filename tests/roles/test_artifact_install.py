"""An archive becomes a versioned folder behind a link, whole or not at all."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.roles.modules import load

installing = load("roles/artifact/library/artifact_install.py")


def archive(path: Path, members: dict[str, str], **changes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, text in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            entry.mode = changes.get("mode", 0o600)
            entry.uid = 1234
            tar.addfile(entry, io.BytesIO(text.encode()))
    return path


def test_top_folder_is_stripped_and_everybody_may_read(tmp_path):
    source = archive(tmp_path / "a.tar", {"kafka-1/libs/a.jar": "jar", "kafka-1/bin/run": "x"})
    installing.unpack(source, tmp_path / "opt/1", "abc")
    assert (tmp_path / "opt/1/libs/a.jar").read_text() == "jar"
    assert (tmp_path / "opt/1/libs/a.jar").stat().st_mode & 0o777 == 0o644
    assert installing.installed_sha512(tmp_path / "opt/1") == "abc"


def test_replaced_as_a_whole(tmp_path):
    installing.unpack(archive(tmp_path / "a.tar", {"k/old": "1"}), tmp_path / "opt/1", "a")
    installing.unpack(archive(tmp_path / "b.tar", {"k/new": "2"}), tmp_path / "opt/1", "b")
    assert sorted(path.name for path in (tmp_path / "opt/1").iterdir()) == [installing.MARKER, "new"]
    assert [path.name for path in (tmp_path / "opt").iterdir()] == ["1"]


@pytest.mark.parametrize("name", ["../evil", "k/../../evil", "/etc/evil"])
def test_a_path_that_leads_outside_is_refused_and_nothing_is_left(tmp_path, name):
    source = archive(tmp_path / "a.tar", {"k/good": "1", name: "2"})
    with pytest.raises(ValueError, match="unsafe path"):
        installing.unpack(source, tmp_path / "opt/1", "a")
    assert list((tmp_path / "opt").iterdir()) == []


def test_cut_archive_leaves_nothing(tmp_path):
    source = archive(tmp_path / "a.tar", {"k/big": "x" * 50_000})
    source.write_bytes(source.read_bytes()[:20_000])
    with pytest.raises((tarfile.TarError, OSError)):
        installing.unpack(source, tmp_path / "opt/1", "a")
    assert list((tmp_path / "opt").iterdir()) == []


def test_link_is_replaced(tmp_path):
    link = tmp_path / "current"
    installing.point(link, "1")
    installing.point(link, "2")
    assert str(link.readlink()) == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["current"]
