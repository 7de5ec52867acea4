#!/usr/bin/python
"""Build a Maven project: its jar, all that this needs, and files of the project, in one archive."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

from ansible.module_utils.app_versions import members
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: maven_app_build
short_description: Build a Maven project
description:
  - The action plugin of this name packs the sources and hands them over; this runs where the build shall be.
  - Maven is called once, as the login's user, with that user's own settings and repository. What came of it has C(app)
    (the jar, and O(files)) and C(libs) (its dependencies).
  - A build that fails is told in Maven's own words, with places as file:line of the project.
options:
  project: {description: A tar of the sources, required: true, type: path}
  built: {description: The tar to make, required: true, type: path}
  name: {description: Names the log that a failure leaves, required: true, type: str}
  source: {description: Where the sources came from; for messages, required: true, type: str}
  settings: {description: Settings for Maven, type: str, default: ''}
  module: {description: Which module of the project it is, type: str, default: ''}
  options: {description: Further words for Maven, type: list, elements: str, default: []}
  tests: {description: Whether the project's tests must succeed, type: bool, default: false}
  jar: {description: The jar where there are several, type: str, default: ''}
  files: {description: Globs of files of the project to keep beside the jar, type: list, elements: str, default: []}
  timeout: {description: Seconds until it must be done, type: int, default: 900}
"""

COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
NOT_THE_PROGRAM = re.compile(r"(^original-|-(sources|javadoc|tests|test-sources)\.jar$)")
ADVICE = re.compile(r"To see the full stack trace|Re-run Maven|For more information|After correcting|\[Help \d+\] http")
SHOWN = 12  # lines of errors; the log has all


class BuildError(Exception):
    """The project cannot be built; the text has Maven's words and says what to do."""


def command(arguments: dict, libs: Path) -> list[str]:
    """Return the call of Maven."""
    words = ["mvn", "--batch-mode", "--no-transfer-progress"]
    if arguments["settings"]:
        words += ["--settings", arguments["settings"]]
    if arguments["module"]:
        words += ["--projects", arguments["module"], "--also-make"]
    if not arguments["tests"]:
        words.append("-Dmaven.test.skip=true")
    words += [*arguments["options"], "package", COPY, "-DincludeScope=runtime", f"-DoutputDirectory={libs}"]
    return words


def errors(output: str, folder: str) -> list[str]:
    """Return what Maven says is wrong, without its colours, marks and advice; places in `folder` as file:line."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in output.splitlines()]
    begin = 0
    for mark in ("BUILD FAILURE", "The build could not read"):
        begin = next((at for at, line in enumerate(lines) if mark in line), begin)
    failed_tests = [line.strip() for line in lines[:begin] if re.match(r"(\[ERROR\] +)?\w+\.\w+:\d+ ", line.strip())]
    found, pom = [], ""
    for line in lines[begin:]:
        if not line.startswith("[ERROR]"):
            continue
        text = line.removeprefix("[ERROR]").removeprefix(" ").rstrip()
        if ADVICE.search(text):
            break
        told = said(text, folder, pom)
        if named := re.search(r"The project .*\((\S+pom\.xml)\) has", told):
            pom = named[1]
        if told and told not in found:
            found.append(told)
    return found + [line for line in failed_tests if line not in found] or [line for line in lines if line][-SHOWN:]


def said(text: str, folder: str, pom: str) -> str:
    """Return one line of an error, its place first as file:line."""
    text = re.sub(r" *-> \[Help \d+\]$", "", text).replace(f"{folder}/", "").rstrip()
    text = re.sub(r"Failed to execute goal (\S+ \(\S+\) )?on project (\S+):", r"project \2:", text)
    text = re.sub(r"(Compilation failure: ?)+", "Compilation failure", text)
    text = re.sub(r"(\w+://)[^/@\s]+@", r"\1", text)  # a password for a repository
    text = text.replace("[ERROR] ", "")
    if at := re.search(r"^ *(\S+):\[(\d+)(?:,\d+)?\] (.*)", text):
        return f"{at[1]}:{at[2]}: {at[3]}"
    if at := re.search(r"^(.*?) *@(?: .*?,)? *line (\d+), column \d+", text):
        named = re.search(r"(\S+pom\.xml)", at[1])
        return f"{named[1] if named else pom or 'pom.xml'}:{at[2]}: {at[1].strip()}"
    return text if text.strip() else ""


def run(arguments: dict, folder: Path, libs: Path) -> float:
    """Call Maven; return the seconds it took. Its log is kept where it failed."""
    where = folder / arguments["module"] / "pom.xml"
    if not (folder / "pom.xml").is_file() or not where.is_file():
        missing = (
            "pom.xml" if not (folder / "pom.xml").is_file() else f"{arguments['module']}/pom.xml (maven_app_module)"
        )
        raise BuildError(f"{arguments['source']} has no {missing}")
    log = Path.home() / ".cache/labtool/maven" / f"{arguments['name']}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with log.open("w") as out:
        try:
            child = subprocess.Popen(
                command(arguments, libs), cwd=folder, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise BuildError(
                f"{os.uname().nodename}, where {arguments['name']} is built, has no mvn: install it (Debian: apt-get "
                "install maven default-jdk-headless), or name another host of the play with maven_app_build_host"
            ) from None
        try:
            code = child.wait(timeout=arguments["timeout"])
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            code = None
    output = log.read_text(errors="replace")
    if code is None:
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "nothing")
        raise BuildError(
            f"Maven has not built {arguments['source']} within {arguments['timeout']} s (maven_app_build_timeout); the "
            f"last it said: {last}; all of it: {log}"
        )
    if code != 0:
        told = errors(output, str(folder))
        more = [f"… and {len(told) - SHOWN} lines more"] if len(told) > SHOWN else []
        raise BuildError(
            "\n".join([f"Maven cannot build {arguments['source']}:", *told[:SHOWN], *more, f"All it said: {log}"])
        )
    log.unlink()
    return time.monotonic() - begun


def program(arguments: dict, folder: Path) -> Path:
    """Return the jar that is the program."""
    if arguments["jar"]:
        jar = folder / arguments["jar"]
        if not jar.is_file():
            there = sorted(str(path.relative_to(folder)) for path in folder.glob("**/target/*.jar"))
            raise BuildError(
                f"the build made no {arguments['jar']} (maven_app_jar), but {', '.join(there) or 'no jar'}"
            )
        return jar
    target = folder / arguments["module"] / "target"
    jars = sorted(path for path in target.glob("*.jar") if not NOT_THE_PROGRAM.search(path.name))
    if len(jars) == 1:
        return jars[0]
    if jars:
        names = ", ".join(str(jar.relative_to(folder)) for jar in jars)
        raise BuildError(f"the build made {names}: which is the program? Set maven_app_jar")
    modules = sorted(str(path.parent.parent.relative_to(folder)) for path in folder.glob("*/**/target/*.jar"))
    told = f": set maven_app_module, as {', '.join(dict.fromkeys(modules))}" if modules else ""
    raise BuildError(f"the build of {arguments['source']} made no jar in {target.relative_to(folder)}{told}")


def classes(jar: Path) -> tuple[str, list[str]]:
    """Return the class that a jar names as its main one ('' for none), and all that have a main method."""
    with zipfile.ZipFile(jar) as packed:
        try:
            manifest = packed.read("META-INF/MANIFEST.MF").decode(errors="replace").replace("\r\n ", "")
        except KeyError:
            manifest = ""
        named = re.search(r"^Main-Class: *(\S+)", manifest, re.MULTILINE)
        found = []
        for name in packed.namelist():
            if name.endswith(".class") and not name.startswith("META-INF/"):
                content = packed.read(name)
                # The constants of a method `public static void main(String[])`.
                if b"\x00\x04main" in content and b"([Ljava/lang/String;)V" in content:
                    found.append(name.removesuffix(".class").replace("/", "."))
    return (named[1] if named else ""), sorted(found)


def assemble(arguments: dict, folder: Path, jar: Path, libs: Path) -> None:
    """Write the archive that the hosts get."""
    kept = [(jar, f"app/{jar.name}")]
    for pattern in arguments["files"]:
        found = sorted(folder.glob(pattern))
        if not found:
            raise BuildError(f"{arguments['source']} has no {pattern} (maven_app_files)")
        kept += [(path, f"app/{path.relative_to(folder)}") for path in found if path.is_file()]
    kept += [(path, f"libs/{path.name}") for path in sorted(libs.glob("*.jar"))]
    with tarfile.open(arguments["built"], "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("app", "libs"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for path, name in kept:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o644 | path.stat().st_mode & 0o111
            with path.open("rb") as content:
                tar.addfile(entry, content)


def build(arguments: dict, work: Path) -> dict:
    """Build in the folder `work`; return what is known of the program."""
    folder, libs = work / "project", work / "libs"
    folder.mkdir(parents=True)
    libs.mkdir()
    with tarfile.open(arguments["project"]) as tar:
        tar.extractall(folder, members=members(tar))  # noqa: S202 - members() lets no path lead outside
    seconds = run(arguments, folder, libs)
    jar = program(arguments, folder)
    main, own = classes(jar)
    assemble(arguments, folder, jar, libs)
    return {"main": main, "classes": own, "seconds": round(seconds, 1)}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "path", "required": True},
            "built": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "source": {"type": "str", "required": True},
            "settings": {"type": "str", "default": ""},
            "module": {"type": "str", "default": ""},
            "options": {"type": "list", "elements": "str", "default": []},
            "tests": {"type": "bool", "default": False},
            "jar": {"type": "str", "default": ""},
            "files": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 900},
        },
    )
    work = Path(module.params["project"]).with_name("build")
    try:
        result = build(module.params, work)
    except BuildError as error:
        module.fail_json(msg=str(error))
    except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
        module.fail_json(msg=f"{module.params['source']} cannot be built: {error}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
