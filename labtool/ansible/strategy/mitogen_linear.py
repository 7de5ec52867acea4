"""Mitogen's linear strategy, on whichever core is free.

Mitogen binds processes to cores: the one that holds the connections has the first core for itself, and of two cores
Ansible and all its workers share the other. Beside labtool run a local cloud, a load, a second labtool: here the
kernel's scheduler places them all.
"""

import gc
from typing import Any

from ansible_mitogen import affinity, loaders, strategy

affinity.policy = affinity.Policy()

_LINEAR: Any = loaders.strategy_loader.get("linear", class_only=True)


class StrategyModule(strategy.StrategyMixin, _LINEAR):  # type: ignore[misc]
    """Ansible loads this class by its name."""

    def run(self, iterator: Any, play_context: Any, result: int = 0) -> int:
        """Run a play whose forked workers share what is loaded by now: a garbage collection copies what it looks at."""
        gc.freeze()
        code: int = super().run(iterator, play_context, result)
        return code
