#!/usr/bin/env python3
"""The hosts of a lab, for `ansible-playbook -i inventory/labtool.py …` and `ansible-inventory -i …`.

Which lab and which cloud: labtool.toml, or LABTOOL_LAB and LABTOOL_CLOUD in the environment; the same hosts and groups
as `labtool inventory --list`. Name this file, not its folder: `-i inventory/` reads the example beside it as well.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Answer Ansible's `--list` or `--host NAME`."""
    # Python puts this file's folder first, where `import labtool` would find this file again.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
    try:
        from labtool.cli.script import answer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "labtool":
            raise
        # The first python3 on PATH need not be the one that labtool was installed for.
        beside = HERE.parent / ".venv" / "bin" / "python"
        if beside.exists() and os.environ.get("LABTOOL_INVENTORY_PYTHON") != str(beside):
            os.environ["LABTOOL_INVENTORY_PYTHON"] = str(beside)
            os.execv(beside, [str(beside), str(Path(__file__).resolve()), *sys.argv[1:]])  # noqa: S606
        sys.exit(
            f"labtool is not installed for {sys.executable}\n"
            "  activate the environment it is in (. .venv/bin/activate), or: pip install labtool"
        )
    answer(sys.argv[1:])


if __name__ == "__main__":
    main()
    # Python would take a thousand hosts apart again, object by object, for as long as it took to read them.
    os._exit(0)
