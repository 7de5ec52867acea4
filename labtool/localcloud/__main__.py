"""`python -m labtool.localcloud start|stop|status|serve|prepare|checks`: what sudo runs, and the API process."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

from labtool import checked, config, localcloud
from labtool.errors import LabtoolError


def main() -> int:
    """Run one action; the result is JSON on standard output, progress goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m labtool.localcloud", description="The local cloud's process.")
    parser.add_argument("action", choices=("start", "stop", "status", "serve", "prepare", "checks"))
    parser.add_argument("--settings", help="the settings as JSON; without it, as labtool finds them")
    parser.add_argument("--purge", action="store_true", help="stop: remove the image and the package cache too")
    arguments = parser.parse_args()
    try:
        if arguments.settings:
            settings = checked.convert(json.loads(arguments.settings), config.LocalSettings)
        else:
            settings = config.load().local
        return _act(arguments.action, settings, purge=arguments.purge)
    except LabtoolError as error:
        print(f"error: {error.message}", file=sys.stderr)
        print(f"hint: {error.hint or ''}", file=sys.stderr)
        return error.exit_code


def _act(action: str, settings: config.LocalSettings, *, purge: bool) -> int:
    if action == "serve":
        from labtool.localcloud.serve import serve

        serve(settings)
    elif action == "start":
        _print(dataclasses.asdict(localcloud.start(settings, _progress)))
    elif action == "stop":
        localcloud.stop(settings, _progress, purge=purge)
    elif action == "prepare":
        localcloud.prepare(settings, _progress)
    elif action == "checks":
        found = localcloud.checks(settings)
        _print([dataclasses.asdict(check) for check in found])
        return 0 if all(check.ok for check in found) else 1
    else:
        running = localcloud.status(settings)
        _print(dataclasses.asdict(running) if running else None)
        return 0 if running else 1
    return 0


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
