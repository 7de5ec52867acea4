"""What hosts take over from the machine to reach its package registries.

Behind a company's mirror or proxy a host that lacks the machine's settings can install nothing. This module
reads them (apt sources and options, pip, Maven, CA certificates, proxies) and returns them as files of a host.
"""

from __future__ import annotations

import configparser
import io
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labtool.localcloud.distribution import Distribution

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

# Options of apt that decide whether and how a registry is reached; the rest (index targets of desktop
# programs, clean-up hooks) belongs to the machine alone.
_APT_REACH = re.compile(
    r"^Acquire::(http|https|ftp|Check-Valid-Until|Check-Date|Retries|ForceIPv[46]|Max-ValidTime"
    r"|AllowInsecureRepositories|AllowWeakRepositories|By-Hash)(::|\s)",
    re.IGNORECASE,
)
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_PIP_OPTIONS = {
    "index-url": "PIP_INDEX_URL",
    "extra-index-url": "PIP_EXTRA_INDEX_URL",
    "trusted-host": "PIP_TRUSTED_HOST",
    "proxy": "PIP_PROXY",
    "timeout": "PIP_DEFAULT_TIMEOUT",
    "retries": "PIP_RETRIES",
    "cert": "PIP_CERT",
}


@dataclass(frozen=True)
class HostFile:
    """A file that a host gets; `path` is absolute."""

    path: str
    content: bytes
    mode: int = 0o644


def host_files(
    distribution: Distribution,
    *,
    root: Path = Path("/"),
    home: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[HostFile, ...]:
    """Return the files that make a host reach what this machine reaches, in order of path."""
    env = os.environ if environment is None else environment
    user = home or _caller_home(env)
    files = [
        *apt_sources(distribution, root),
        *_apt_options(),
        *_copies(root / "etc/apt/auth.conf.d", "/etc/apt/auth.conf.d", "*.conf", 0o600),
        *_copy(root / "etc/apt/auth.conf", "/etc/apt/auth.conf", 0o600),
        *_certificates(root, env),
        *_pip(root, user, env),
        *_maven(root, user),
        *_proxies(env),
    ]
    return tuple(sorted(files, key=lambda file: file.path))


def apt_sources(distribution: Distribution, root: Path = Path("/")) -> list[HostFile]:
    """Return the machine's apt sources of its own distribution (third parties' are left out)."""
    files: list[HostFile] = []
    folder = root / "etc/apt"
    one_line = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))]
    lines = [
        line
        for file in one_line
        if file.is_file()
        for line in file.read_text().splitlines()
        if _is_own_line(line, distribution)
    ]
    if lines:
        files.append(HostFile("/etc/apt/sources.list", ("\n".join(lines) + "\n").encode()))
    for file in sorted((folder / "sources.list.d").glob("*.sources")):
        stanzas = [stanza for stanza in re.split(r"\n\s*\n", file.read_text()) if _is_own_stanza(stanza, distribution)]
        if stanzas:
            text = "\n\n".join(stanza.strip("\n") for stanza in stanzas) + "\n"
            files.append(HostFile(f"/etc/apt/sources.list.d/{file.name}", text.encode()))
            files += _signing_keys(text, root)
    return files


def source_hosts(files: tuple[HostFile, ...]) -> tuple[str, ...]:
    """Return the `host[:port]` of every plain-http apt source in `files`: what a cache can serve."""
    found: set[str] = set()
    for file in files:
        if file.path.startswith("/etc/apt/sources.list"):
            for line in file.content.decode().splitlines():
                if not line.lstrip().startswith("#"):
                    found.update(re.findall(r"http://(?:[^/@\s]*@)?([^/\s]+)", line))
    return tuple(sorted(found))


def http_proxy(files: tuple[HostFile, ...]) -> str | None:
    """Return the proxy by which the machine reaches plain-http sources, as apt or the environment has it."""
    for file in files:
        for pattern in (r'^Acquire::http::Proxy "(http[^"]+)"', r'^http_proxy="([^"]+)"'):
            found = re.search(pattern, file.content.decode(errors="replace"), re.MULTILINE)
            if found and file.path.startswith(("/etc/apt/apt.conf.d", "/etc/environment")):
                return found[1]
    return None


def _own_suite(suite: str, distribution: Distribution) -> bool:
    return re.split(r"[-/]", suite)[0] == distribution.codename


def _is_own_line(line: str, distribution: Distribution) -> bool:
    match = re.match(r"\s*deb\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)", line)
    return bool(match) and match is not None and _usable(match[2]) and _own_suite(match[3], distribution)


def _is_own_stanza(stanza: str, distribution: Distribution) -> bool:
    fields = {
        key.strip().lower(): value.strip()
        for key, _, value in (
            line.partition(":") for line in stanza.splitlines() if not line.startswith(("#", " ", "\t"))
        )
    }
    if fields.get("enabled", "yes").lower() == "no" or "deb" not in fields.get("types", "").split():
        return False
    suites = fields.get("suites", "").split()
    uris = fields.get("uris", "").split()
    return bool(suites and uris) and all(_own_suite(s, distribution) for s in suites) and all(map(_usable, uris))


def _usable(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _signing_keys(stanzas: str, root: Path) -> list[HostFile]:
    files = []
    for path in re.findall(r"^Signed-By:\s*(/\S+)", stanzas, re.MULTILINE | re.IGNORECASE):
        files += _copy(root / path.lstrip("/"), path)
    return files


def _apt_options() -> list[HostFile]:
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    lines = [line for line in dump.splitlines() if _APT_REACH.match(line) and not line.endswith(' "";')]
    lines = [line for line in lines if "Proxy-Auto-Detect" not in line and "ProxyAutoDetect" not in line]
    if not lines:
        return []
    return [HostFile("/etc/apt/apt.conf.d/80labtool-machine", ("\n".join(lines) + "\n").encode())]


def _certificates(root: Path, env: Mapping[str, str]) -> list[HostFile]:
    files = _copies(root / "usr/local/share/ca-certificates", "/usr/local/share/ca-certificates", "**/*.crt", 0o644)
    bundles = {env.get(name) for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")}
    for number, bundle in enumerate(sorted(path for path in bundles if path and path != CA_BUNDLE)):
        target = f"/usr/local/share/ca-certificates/machine-{number}.crt"
        files += _copy(root / bundle.lstrip("/"), target)
    return files


def _pip(root: Path, home: Path, env: Mapping[str, str]) -> list[HostFile]:
    found: dict[str, str] = {}
    places = (root / "etc/pip.conf", home / ".pip/pip.conf", home / ".config/pip/pip.conf")
    for place in places:
        parser = configparser.RawConfigParser()
        try:
            parser.read(place)
        except configparser.Error:
            continue  # pip itself will complain about it on the machine
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {key: value for key, value in parser.items(section) if key in _PIP_OPTIONS}
    found |= {option: env[name] for option, name in _PIP_OPTIONS.items() if env.get(name)}
    if "cert" in found:
        found["cert"] = CA_BUNDLE  # the machine's certificates are in the host's bundle
    if not found:
        return []
    parser = configparser.RawConfigParser()
    parser["global"] = dict(sorted(found.items()))
    text = io.StringIO()
    parser.write(text)
    return [HostFile("/etc/pip.conf", text.getvalue().encode())]


def _maven(root: Path, home: Path) -> list[HostFile]:
    own = home / ".m2/settings.xml"
    if own.is_file():
        return _copy(own, "/root/.m2/settings.xml", 0o600)
    system = root / "etc/maven/settings.xml"
    if system.is_file():
        text = re.sub(r"<!--.*?-->", "", system.read_text(), flags=re.DOTALL)
        # Maven's own file has one mirror, which only blocks plain http.
        own_words = re.sub(r"<mirror>\s*<id>maven-default-http-blocker</id>.*?</mirror>", "", text, flags=re.DOTALL)
        if re.search(r"<(mirror|proxy|server|profile)>", own_words):
            return _copy(system, "/etc/maven/settings.xml")
    return []


def _proxies(env: Mapping[str, str]) -> list[HostFile]:
    lines = []
    for name in _PROXY_VARIABLES:
        value = env.get(name) or env.get(name.upper())
        if value:
            lines += [f'{name}="{value}"', f'{name.upper()}="{value}"']
    lines += [f'REQUESTS_CA_BUNDLE="{CA_BUNDLE}"'] if env.get("REQUESTS_CA_BUNDLE") else []
    return [HostFile("/etc/environment", ("\n".join(lines) + "\n").encode())] if lines else []


def _caller_home(env: Mapping[str, str]) -> Path:
    """Return the home of the person who typed the command, also below sudo."""
    if name := env.get("SUDO_USER"):
        import pwd

        try:
            return Path(pwd.getpwnam(name).pw_dir)
        except KeyError:
            pass
    return Path(env.get("HOME") or "/root")


def _copy(source: Path, target: str, mode: int = 0o644) -> list[HostFile]:
    return [HostFile(target, source.read_bytes(), mode)] if source.is_file() else []


def _copies(folder: Path, target: str, pattern: str, mode: int) -> list[HostFile]:
    return [
        HostFile(f"{target}/{path.relative_to(folder)}", path.read_bytes(), mode)
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    ]
