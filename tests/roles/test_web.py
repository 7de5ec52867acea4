"""A web stack's life on real hosts: made, refused, renewed and grown under load, logged; and httpd alone, with TLS."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from labtool.dataset import parsers
from tests.roles.conftest import MITOGEN, ROOT

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(400)]

DEPLOY = "playbooks/web.yml"
PORT = 8080  # of the fronts: HAProxy has 80, on the first one's host


def inventory(ansible, hosts, **variables):
    fronts = {f"web-{at}": (host, {}) for at, host in enumerate(hosts)}
    ansible.groups({"web": fronts, "balancer": {"balancer-0": (hosts[0], {})}}, httpd_port=PORT, **variables)


def asked(host, url: str, *options: str) -> str:
    """Ask from a lab host, as its neighbours do."""
    return host.run(f"curl -sS --max-time 10 {' '.join(options)} '{url}'")


def pid(host, unit: str) -> str:
    return host.run(f"systemctl show {unit} -p MainPID --value").strip()


@pytest.fixture(scope="module")
def web(lab_hosts, ansible):
    """Two fronts and HAProxy, deployed from nothing with a plain inventory; a third host to grow to."""
    hosts = lab_hosts(3)
    inventory(ansible, hosts[:2], php_children=6, httpd_workers=128)
    assert ansible.run(DEPLOY, "--check", strategy=MITOGEN).changed > 0
    assert "no" in hosts[0].run("command -v apachectl || echo no")
    first = ansible.run(DEPLOY, strategy=MITOGEN)
    assert all(first.host_tasks(name) <= 40 for name in first.recap), first.recap
    return hosts


def test_again_changes_nothing(web, ansible):
    before = [pid(web[0], unit) for unit in ("apache2", "php8.2-fpm", "haproxy", "httpd-metrics")]
    assert ansible.run(DEPLOY, strategy="linear").changed == 0
    assert [pid(web[0], unit) for unit in ("apache2", "php8.2-fpm", "haproxy", "httpd-metrics")] == before


def test_pages(web):
    front, balanced = f"http://{web[1].address}:{PORT}", f"http://{web[0].address}"
    for url in (front, balanced):
        assert "It works" in asked(web[2], f"{url}/")
        health = json.loads(asked(web[2], f"{url}/health?nonce=n0nce"))
        assert health["nonce"] == "n0nce" and health["php"].startswith("8.")
    used = json.loads(asked(web[2], f"{front}/work.php?ms=30"))
    assert 30 <= used["cpu_ms"] < 40 <= used["elapsed_ms"] + 40
    slept = json.loads(asked(web[2], f"{front}/work.php?ms=30&how=sleep"))
    assert slept["cpu_ms"] < 10 and slept["elapsed_ms"] >= 30
    assert asked(web[2], f"{front}/work.php?ms=long", "-o /dev/null -w '%{http_code}'") == "400"
    decision = asked(web[2], f"{balanced}/decision.php", "-d method=request -d payload=a%09b")
    assert decision.strip() in {"0", "1"}
    assert asked(web[2], f"{front}/decision.php", "-d method=update -d payload=a%09b") == "queued\n"
    assert json.loads(web[1].run("tail -n 1 /var/lib/labtool-web/queue.jsonl"))["payload"] == "a\tb"


def test_status_is_for_the_host_itself(web):
    assert web[0].run("ss -Hltn 'sport = :8090'").split()[3] == "127.0.0.1:8090"
    for url in (f"http://{web[0].address}:{PORT}/server-status", f"http://{web[0].address}/server-status"):
        assert asked(web[2], url, "-o /dev/null -w '%{http_code}'") == "404"
    assert "BusyWorkers" in asked(web[0], "http://127.0.0.1:8090/server-status?auto")
    assert "600 root" in web[0].run("stat -c '%a %U' /run/haproxy/labtool.sock")


def test_units_and_what_they_leave(web):
    assert web[0].run("systemctl show apache2 php8.2-fpm haproxy -p Restart --value").split() == ["no"] * 3
    for service in ("httpd", "php", "haproxy"):
        assert "labtool.slice" in web[0].run(f"systemctl show {service}-metrics -p ControlGroup --value")
        declared = web[0].run(f"cat /etc/labtool/logs.d/{service}.conf")
        assert f"metrics csv /var/log/labtool/web/{service}-*.csv" in declared
    assert "MaxRequestWorkers 128" in web[0].run("cat /etc/apache2/labtool-mpm.conf")
    assert "pm.max_children = 6" in web[0].run("cat /etc/php/8.2/fpm/pool.d/www.conf")


def test_a_configuration_that_apache_refuses_never_reaches_it(web, ansible):
    before = pid(web[1], "apache2"), web[1].run("md5sum /etc/apache2/*.conf")
    result = ansible.run(
        DEPLOY, "--tags", "httpd", "--limit", "web-1", strategy=MITOGEN, code=2, httpd_settings=["NoSuchThing on"]
    )
    assert "Invalid command 'NoSuchThing'" in result.output and "was not touched" in result.output
    assert (pid(web[1], "apache2"), web[1].run("md5sum /etc/apache2/*.conf")) == before
    assert "It works" in asked(web[0], f"http://{web[1].address}:{PORT}/")


def test_a_third_front_and_a_new_site_while_requests_go_on(web, ansible, tmp_path):
    load = (ROOT / "tests/roles/steady_load.py").read_text()
    url = f"http://{web[0].address}/work.php?ms=1"
    web[2].run(f"mkdir -p /tmp/load; cd /tmp/load; cat > load.py <<'END'\n{load}\nEND\nrm -f stop told")
    web[2].run(
        f"cd /tmp/load; systemd-run -q --unit=steady-load -p WorkingDirectory=/tmp/load sh -c "
        f"'python3 load.py 200 60 \"{url}\" > told'"
    )
    site = tmp_path / "site"
    shutil.copytree(ROOT / "playbooks/files/web", site)
    (site / "index.html").write_text("<h1>Another site</h1>\n")
    inventory(ansible, web, php_children=6, httpd_workers=128, web_root=str(site))
    haproxy = pid(web[0], "haproxy")
    ansible.run(DEPLOY, strategy=MITOGEN)
    for host in web:
        assert "Another site" in asked(web[0], f"http://{host.address}:{PORT}/")
    web[2].run("sleep 3; touch /tmp/load/stop; while systemctl is-active -q steady-load; do sleep 0.1; done")
    told = json.loads(web[2].run("cat /tmp/load/told"))
    assert told["failed"] == 0 and told["sent"] > 200, told
    assert told["connections"] == 4, "no connection was closed"
    assert pid(web[0], "haproxy") == haproxy

    # The logs of all agree with the client, to the request; and the third front had its share.
    logs = tmp_path / "logs"
    for at, host in enumerate(web):
        kept = {"files/var/log/apache2/labtool-access.log": "/var/log/apache2/labtool-access.log"}
        if at == 0:
            kept["files/var/log/haproxy/access.log"] = "/var/log/haproxy/access.log"
        newest = host.run("ls -t /var/log/labtool/web/*.csv").split()
        kept |= {f"metrics{path}": path for path in newest}
        for name, path in kept.items():
            target = logs / f"web-{at}" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(host.run(f"cat {path}"))
    tables = parsers.stack(ROOT / "playbooks/web.py", logs)
    rows = [row for row in tables["access_log"].to_pylist() if row["path"] == "/work.php?ms=1"]
    by_service = {name: [row for row in rows if row["service"] == name] for name in ("httpd", "haproxy")}
    assert len(by_service["haproxy"]) == len(by_service["httpd"]) == told["sent"]
    assert {row["request_id"] for row in by_service["haproxy"]} == {row["request_id"] for row in by_service["httpd"]}
    assert {row["backend"] for row in by_service["haproxy"]} == {"web-0", "web-1", "web-2"}
    assert all(row["status"] == 200 and row["backend"] == "php" for row in by_service["httpd"])
    assert all(0.001 <= row["duration_s"] < 5 for row in rows)
    metrics = {(row["service"], row["metric"]): row["value"] for row in tables["service_metrics"].to_pylist()}
    assert metrics["httpd", "MaxWorkers"] == 128 and metrics["php", "MaxProcesses"] == 6
    assert metrics["haproxy", "fronts.web-2.Up"] == 1 and metrics["haproxy", "DroppedLogs"] == 0


def test_health(web, ansible):
    told = ansible.run("playbooks/health.yml", strategy=MITOGEN).output
    assert "httpd: answers" in told and "of 6 processes busy" in told
    assert "haproxy: answers; all fronts are up: web-0, web-1, web-2" in told
    web[1].run("systemctl stop php8.2-fpm")
    sick = ansible.run("playbooks/health.yml", "--limit", "web-1", strategy=MITOGEN, code=2).output
    assert "/health answers 503" in sick


def test_a_front_that_does_not_answer_gets_no_request(web, ansible):
    fronts = {f"web-{at}": f"{host.address}:{PORT}" for at, host in enumerate(web)}
    wrong = {**fronts, "web-9": f"{web[2].address}:9999"}
    before = web[0].run("cat /etc/haproxy/haproxy.cfg")
    options = ("--tags", "haproxy", "--limit", "balancer-0")
    result = ansible.run(DEPLOY, *options, strategy=MITOGEN, code=2, haproxy_fronts=wrong, haproxy_wait_s=2)
    assert "these fronts do not answer their health check: web-9" in result.output
    assert web[0].run("cat /etc/haproxy/haproxy.cfg") == before
    # One that leaves is drained and taken out; PHP of web-1 was stopped above.
    ansible.run(DEPLOY, *options, strategy=MITOGEN, haproxy_fronts={name: fronts[name] for name in ("web-0", "web-2")})
    assert "web-1" not in web[0].run("cat /etc/haproxy/haproxy.cfg")


ALONE = """
- hosts: web-2
  gather_facts: false
  roles:
    - role: httpd
      vars:
        httpd_sites:
          - {name: shop, git: "%(repository)s", commit: v1, port: 8443,
             tls_certificate: "%(folder)s/site.crt", tls_key: "%(folder)s/site.key"}
"""


def test_httpd_alone_from_a_git_commit_with_tls(web, ansible, tmp_path):
    repository = tmp_path / "shop"
    repository.mkdir()
    (repository / "index.html").write_text("shop of v1\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(repository)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"], ["tag", "v1"]):
        subprocess.run([*git, *words], check=True)
    key, certificate = tmp_path / "site.key", tmp_path / "site.crt"
    subject = ["-subj", "/CN=shop.example.org", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject], check=True, capture_output=True
    )
    playbook = ansible.play(ALONE % {"repository": repository, "folder": tmp_path})
    result = ansible.run(playbook, "--diff", strategy=MITOGEN)
    assert "BEGIN PRIVATE KEY" not in result.output
    url = f"https://{web[2].address}:8443"
    assert asked(web[0], f"{url}/", "-k", "--http2", "-w '%{http_version}'") == "shop of v1\n2"
    assert "x-nonce: nonce=abc" in asked(web[0], f"{url}/health?nonce=abc", "-k", "-i").lower()
    assert "600 root" in web[2].run("stat -c '%a %U' /etc/apache2/labtool-shop.key")
    assert ansible.run(playbook, strategy=MITOGEN).changed == 0
