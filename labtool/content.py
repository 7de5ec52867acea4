"""Where playbooks, roles, inventory and group_vars are: in the checkout, or inside the installed wheel."""

from __future__ import annotations

from pathlib import Path

from labtool.errors import LabtoolError


def root() -> Path:
    """Return the folder that holds `playbooks/`, `roles/`, `inventory/` and `group_vars/`."""
    here = Path(__file__).resolve().parent
    for candidate in (here / "content", here.parent):
        if (candidate / "playbooks").is_dir() and (candidate / "roles").is_dir():
            return candidate
    raise LabtoolError(
        f"labtool's playbooks are missing beside {here}",
        "reinstall it: pip install --force-reinstall labtool",
    )


def playbooks() -> Path:
    """Return the folder of playbooks."""
    return root() / "playbooks"
