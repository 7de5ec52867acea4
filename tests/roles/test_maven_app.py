"""Role `maven_app` on a host: two instances of a program with a dependency, a build that fails, another version."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(420)]

PLAY = "- hosts: web\n  gather_facts: false\n  roles: [maven_app]\n"
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>x</groupId>
  <artifactId>welcomer</artifactId>
  <version>1.0</version>
  <properties>
    <maven.compiler.source>17</maven.compiler.source>
    <maven.compiler.target>17</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-api</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
MAIN = """package x;

import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;

public final class Main {
    public static void main(String[] words) throws Exception {
        String conf = Files.readString(Path.of("conf/greeting.txt")).strip();
        String said = conf + " " + String.join("|", words) + " " + System.getenv("WHO") + " "
            + org.slf4j.LoggerFactory.class.getSimpleName() + " one";
        HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(words[words.length - 1])), 0);
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, said.length());
            exchange.getResponseBody().write(said.getBytes());
            exchange.close();
        });
        server.start();
    }
}
"""


@pytest.fixture(scope="module")
def host(one_host, ansible):
    ansible.groups({"web": {"web-0": (one_host, {})}})
    return one_host


@pytest.fixture
def project(tmp_path):
    """Return a function that writes the program and returns its folder."""

    def write(main=MAIN):
        folder = tmp_path / "welcomer"
        for name in ("src/main/java/x", "conf"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "pom.xml").write_text(POM)
        (folder / "conf/greeting.txt").write_text("good day\n")
        (folder / "src/main/java/x/Main.java").write_text(main)
        return folder

    return write


def instance(name, port):
    return {"name": name, "arguments": [str(port)], "environment": {"WHO": f"50 % {name}"}, "health_port": port}


def test_instances_of_a_program_that_is_built_once(host, project, ansible, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wanted = {
        "maven_app_name": "welcomer",
        "maven_app_source": str(project()),
        "maven_app_files": ["conf/*.txt"],
        "maven_app_arguments": ["$HOME 50 %"],
        "maven_app_java_options": ["-Xmx32m"],
        "maven_app_instances": [instance("a", 8101), instance("b", 8102)],
    }
    assert ansible.run(ansible.play(PLAY), "--check", **wanted).changed > 0
    assert host.run("ls -d /opt/welcomer /etc/systemd/system/welcomer@.service", check=False) == ""
    assert ansible.run(ansible.play(PLAY), **wanted).changed == 4  # built, user, installed, units
    assert host.run("curl -s localhost:8101") == "good day $HOME 50 %|8101 50 % a LoggerFactory one"
    assert host.run("curl -s localhost:8102") == "good day $HOME 50 %|8102 50 % b LoggerFactory one"
    again = ansible.run(ansible.play(PLAY), **wanted)
    assert again.changed == 0, again.output
    assert again.host_tasks("web-0") <= 10
    assert host.run("systemctl is-enabled welcomer@a welcomer@b") == "enabled\nenabled\n"
    declared = host.run("cat /etc/labtool/logs.d/welcomer.conf").splitlines()
    assert declared[-2:] == ["unit welcomer@a.service", "unit welcomer@b.service"]
    began = host.run("systemctl show welcomer@a -p MainPID --value")

    # A build that fails: Maven's own words, the place in the project, and nothing has changed on the host.
    project(MAIN.replace("server.start();", "server.begin();"))
    failed = ansible.run(ansible.play(PLAY), code=2, **wanted).output
    assert "Compilation failure" in failed and "src/main/java/x/Main.java:19: cannot find symbol" in failed, failed
    assert "symbol:   method begin()" in failed
    assert host.run("systemctl show welcomer@a -p MainPID --value") == began

    # Another version, and one instance less: what is left runs it, the other is gone.
    project(MAIN.replace(" one", " two"))
    assert ansible.run(ansible.play(PLAY), **{**wanted, "maven_app_instances": [instance("a", 8101)]}).changed == 3
    assert host.run("curl -s localhost:8101").endswith("two")
    assert host.run("ls -d /etc/systemd/system/welcomer@b* /etc/systemd/system/*/welcomer@b*", check=False) == ""
    assert host.run("systemctl is-active welcomer@b", check=False) == "inactive\n"
    assert len(host.run("ls /opt/welcomer").split()) == 3
    host.run("systemctl stop 'welcomer@*'")
    assert json.loads(host.run("cat /opt/welcomer/current/.artifact.json"))["sha512"]
