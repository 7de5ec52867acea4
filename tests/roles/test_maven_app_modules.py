"""The Python files of role `maven_app`, without a host and without Maven; what Maven said is Maven 3.8.7's own."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.roles.modules import FIXTURES, load

load("roles/app_service/module_utils/app_versions.py", "ansible.module_utils.app_versions")
building = load("roles/maven_app/library/maven_app_build.py")
planning = load("roles/maven_app/action_plugins/maven_app_build.py", "role_maven_app_planning")

ASKED = {"module": "", "options": [], "tests": False, "jar": "", "files": []}
# What javac makes of a class with a main method, as far as it is looked at.
WITH_MAIN = b"\xca\xfe\xba\xbe\x01\x00\x04main\x01\x00\x16([Ljava/lang/String;)V"


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "hello"
    (folder / "src/main/java/x/target").mkdir(parents=True)
    (folder / "target").mkdir()
    (folder / "pom.xml").write_text("<project/>")
    (folder / "src/main/java/x/Main.java").write_text("class Main {}")
    (folder / "src/main/java/x/target/Sight.java").write_text("class Sight {}")
    (folder / "target/hello-1.0.jar").write_text("made")
    return folder


def version(folder, **asked):
    label, content = planning.project(str(folder), "")
    return planning.version_of(label, content, {**ASKED, **asked})


def test_only_sources_and_what_is_asked_of_them_make_a_version(project):
    first = version(project)
    assert first.startswith("folder-")
    (project / "target/hello-1.0.jar").write_text("made again")
    assert version(project) == first
    assert version(project, options=["-Pbig"]) != first
    (project / "src/main/java/x/target/Sight.java").write_text("class Sight { int x; }")
    assert version(project) != first, "a package that is called target is no build's"


def test_an_archive_of_the_project_is_the_project(project, tmp_path):
    with zipfile.ZipFile(tmp_path / "hello.zip", "w") as archive:
        for path in project.rglob("*"):
            archive.write(path, f"hello-1.0/{path.relative_to(project)}")
    assert planning.project(str(tmp_path / "hello.zip"), "")[1] == planning.project(str(project), "")[1]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{}/src", "has no pom.xml: maven_app_source is the folder that has it"),
        ("{}/pom.xml", "neither a folder nor an archive"),
        ("https://example.org/x.git", "which commit"),
    ],
)
def test_a_source_that_is_none_is_named(project, source, told):
    with pytest.raises(planning.app_source.SourceError, match=told):
        planning.project(source.format(project), "")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "compile",
            [
                "project hello: Compilation failure",
                "src/main/java/x/Main.java:6: cannot find symbol",
                "  symbol:   variable missing",
                "  location: class x.Main",
                "src/main/java/x/Main.java:7: incompatible types: java.lang.String cannot be converted to int",
            ],
        ),
        (
            "dependency",
            [
                "project hello: Could not resolve dependencies for project x:hello:jar:1.0: Could not find artifact "
                "org.apache.kafka:kafka-clients:jar:3.9.99 in central (https://repo.example.org/maven2)"
            ],
        ),
        (
            "model",
            [
                "The build could not read 1 project",
                "  The project x:hello:1.0 (pom.xml) has 1 error",
                "pom.xml:12: 'dependencies.dependency.version' for org.apache.kafka:kafka-clients:jar is missing.",
            ],
        ),
        (
            "xml",
            [
                "The build could not read 1 project",
                "  The project  (pom.xml) has 1 error",
                "pom.xml:4: Non-parseable POM pom.xml: end tag name </artifact> must match start tag name <artifactId> "
                "from line 4 (position: TEXT seen ...<artifactId>hello</artifact>... @4:31)",
            ],
        ),
        ("release", ["project hello: Fatal error compiling: error: invalid target release: 21"]),
    ],
)
def test_what_maven_said_is_told_with_file_and_line(said, told):
    assert building.errors((FIXTURES / "maven" / f"{said}.txt").read_text(), "/build/hello") == told


def test_a_password_for_a_repository_is_not_told():
    said = "[ERROR] Could not transfer artifact a:b:jar:1 from https://me:secret@repo.example.org/x: 401"
    assert building.errors(said, "/build") == [
        "Could not transfer artifact a:b:jar:1 from https://repo.example.org/x: 401"
    ]


def test_the_call_of_maven():
    asked = {**ASKED, "settings": "/s.xml", "module": "server", "options": ["-Pbig"]}
    words = building.command(asked, Path("/libs"))
    assert words[:5] == ["mvn", "--batch-mode", "--no-transfer-progress", "--settings", "/s.xml"]
    assert words[5:10] == ["--projects", "server", "--also-make", "-Dmaven.test.skip=true", "-Pbig"]
    assert words[-1] == "-DoutputDirectory=/libs"
    assert "-Dmaven.test.skip=true" not in building.command({**ASKED, "settings": "", "tests": True}, Path("/libs"))


def test_settings_are_the_users_own_or_a_file_that_is_there(tmp_path):
    assert planning.settings_of("") is None
    (tmp_path / "settings.xml").write_text("<settings/>")
    assert planning.settings_of(str(tmp_path / "settings.xml")) == tmp_path / "settings.xml"
    with pytest.raises(planning.AnsibleActionFail, match=r"no\.xml is no file of the controller: maven_app_settings"):
        planning.settings_of(str(tmp_path / "no.xml"))


def test_a_machine_without_maven_is_told_what_it_lacks(project, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = {**ASKED, "settings": "", "name": "hello", "source": "hello", "timeout": 5}
    with pytest.raises(
        building.BuildError, match=r"where hello is built, has no mvn: install it .*maven_app_build_host"
    ):
        building.run(asked, project, tmp_path / "libs")


def test_a_build_without_an_end_is_ended(project, tmp_path, monkeypatch):
    (tmp_path / "mvn").write_text("#!/bin/sh\necho '[INFO] Downloading the world'\nexec /bin/sleep 60\n")
    (tmp_path / "mvn").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = {**ASKED, "settings": "", "name": "hello", "source": "hello", "timeout": 0.1}
    with pytest.raises(
        building.BuildError, match=r"within 0.1 s \(maven_app_build_timeout\); the last it said: .*world"
    ):
        building.run(asked, project, tmp_path / "libs")


def jar(path, main="", **classes):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n" + (f"Main-Class: {main}\r\n" if main else ""))
        for name, content in classes.items():
            made.writestr(f"x/{name}.class", content)
    return path


def test_the_jar_that_is_the_program(project):
    asked = {**ASKED, "source": "hello"}
    jar(project / "target/hello-1.0.jar")
    jar(project / "target/hello-1.0-sources.jar")
    assert building.program(asked, project).name == "hello-1.0.jar"
    jar(project / "target/hello-1.0-all.jar")
    with pytest.raises(building.BuildError, match=r"hello-1.0-all.jar, target/hello-1.0.jar: which .* maven_app_jar"):
        building.program(asked, project)
    assert building.program({**asked, "jar": "target/hello-1.0-all.jar"}, project).name == "hello-1.0-all.jar"
    with pytest.raises(building.BuildError, match=r"made no target/x.jar \(maven_app_jar\), but target/hello"):
        building.program({**asked, "jar": "target/x.jar"}, project)


def test_a_project_of_modules_asks_which_one(tmp_path):
    jar(tmp_path / "server/target/server-1.jar")
    with pytest.raises(building.BuildError, match="made no jar in target: set maven_app_module, as server"):
        building.program({**ASKED, "source": "big"}, tmp_path)


def kept(tmp_path, main="", **classes):
    """Return an archive as it is kept, and its record."""
    made, lib = jar(tmp_path / "a.jar", main, **classes), jar(tmp_path / "b.jar", Launcher=b"")
    with tarfile.open(tmp_path / "kept.tar", "w") as tar:
        tar.add(made, "app/a.jar")
        tar.add(lib, "libs/b.jar")
    named, found = building.classes(made)
    return tmp_path / "kept.tar", {"main": named, "classes": found}


def test_the_class_that_is_started(tmp_path):
    archive, record = kept(tmp_path, One=WITH_MAIN, Other=b"main([Ljava/lang/String;)V")
    assert record["classes"] == ["x.One"]
    assert planning.main_class("", record, archive, "p") == ("x.One", "")
    assert planning.main_class("x.Launcher", record, archive, "p")[0] == "x.Launcher", "that of a dependency"
    with pytest.raises(planning.app_source.SourceError, match=r"p, built, has no class x.Two: .* main method in x.One"):
        planning.main_class("x.Two", record, archive, "p")
    archive, record = kept(tmp_path, One=WITH_MAIN, Two=WITH_MAIN)
    told = "p: which class is started? Set maven_app_main: one of x.One, x.Two"
    assert planning.main_class("", record, archive, "p") == ("", told)
    archive, record = kept(tmp_path, main="x.Two", One=WITH_MAIN, Two=WITH_MAIN)
    assert planning.main_class("", record, archive, "p") == ("x.Two", "")


def test_what_is_kept_is_built_again_where_it_was_cut(tmp_path):
    archive, _ = kept(tmp_path)
    assert planning.record_of(archive) is None
    digest = planning.hashlib.sha512(archive.read_bytes()).hexdigest()
    archive.with_suffix(".json").write_text(json.dumps({"sha512": digest}))
    assert planning.record_of(archive) == {"sha512": digest}
    archive.write_bytes(b"cut")
    assert planning.record_of(archive) is None
