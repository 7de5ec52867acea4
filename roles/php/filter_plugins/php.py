"""The size of php-fpm's pool."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

FEWEST, MOST = 2, 512


def php_children(memory_mb: int, share: float, child_mb: float, children: int = 0) -> int:
    """Return `pm.max_children`: `children`, or as many as `share` of the memory has room for, from 2 to 512."""
    if not 0 < share <= 1 or child_mb <= 0 or children < 0:
        raise AnsibleFilterError(
            f"php_memory_share {share} must be from 0 to 1, php_child_mb {child_mb} more than 0, "
            f"php_children {children} not less than 0"
        )
    return children or max(FEWEST, min(MOST, int(memory_mb * share / child_mb)))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"php_children": php_children}
