"""Kafka's property files: who a data directory belongs to, and what a node was configured as."""

from __future__ import annotations

from pathlib import Path

QUORUM_COMMENT = "# quorum.controllers="
RELEASE_COMMENT = "# cluster.release="
"""In server.properties: ids of the controllers that the quorum began with. A host that joins later reads it."""


def read_text(path: Path) -> str:
    """Return a file's text; '' where the file is absent."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def read_properties(text: str) -> dict[str, str]:
    """Return the keys and values of a property file without continued lines."""
    lines = [line.strip() for line in text.splitlines()]
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def read_meta(path: Path) -> dict[str, str]:
    """Return the properties of a `meta.properties`; {} where the file is absent."""
    return read_properties(read_text(path))


def of_another(directories: list[str], cluster_id: str, node_id: int) -> str:
    """Say how formatted data directories are another node's or cluster's; '' where none is."""
    told = []
    for directory in directories:
        meta = read_meta(Path(directory) / "meta.properties")
        pairs = [("cluster.id", cluster_id), ("node.id", str(node_id))] if meta else []
        wrong = [f"{key} is {meta.get(key)}, not {wanted}" for key, wanted in pairs if meta.get(key) != wanted]
        if wrong:
            told.append(f"{directory}: {', '.join(wrong)}")
    if not told:
        return ""
    return (
        f"this host's data belongs to another node or cluster: {'; '.join(told)}. "
        "Give the host its own ids back, or move that data away."
    )
