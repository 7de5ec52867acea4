"""A program's command line and environment as systemd reads them, and the units of its instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEALTH = ("health_url", "health_port", "health_command")


def app_service_words(words: Sequence[object]) -> str:
    """Return words as a unit's setting takes them: each in quotes, nothing in them expanded; see systemd.syntax(7)."""
    return " ".join(quoted(str(word)) for word in words)


def quoted(word: str) -> str:
    """Return a word in systemd's quotes."""
    if "\n" in word or "\0" in word:
        raise ValueError(f"{word!r} has a line break, which no argument of a unit may have")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def app_service_units(
    instances: Sequence[Mapping[str, Any]], base: str, command: Sequence[object], health: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return each unit's name, what is its own in a drop-in, and how it is asked whether it is well.

    Without instances that is the one unit `base`; with some, an instance of the template `base`@ for each.
    """
    if not instances:
        return [{"name": f"{base}.service", "own": "", **health}]
    names = [str(one["name"]) for one in instances]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two instances of {base} have the name {twice[0]}")
    return [
        {
            "name": f"{base}@{name}.service",
            "own": drop_in(one, command),
            **{key: one.get(key) or health[key] for key in HEALTH},
        }
        for name, one in zip(names, instances, strict=True)
    ]


def drop_in(instance: Mapping[str, Any], command: Sequence[object]) -> str:
    """Return the lines by which an instance differs from its template."""
    lines = [f"# Instance {instance['name']}: what is its own.", "[Service]"]
    lines += [
        f"Environment={app_service_words([f'{name}={value}'])}"
        for name, value in (instance.get("environment") or {}).items()
    ]
    if instance.get("arguments"):
        lines += ["ExecStart=", f"ExecStart={app_service_words([*command, *instance['arguments']])}"]
    return "\n".join(lines) + "\n"


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"app_service_words": app_service_words, "app_service_units": app_service_units}
