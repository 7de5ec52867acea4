"""The local cloud by hand, and what this machine lacks."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from labtool.cli import options

app = typer.Typer(help="The local cloud: start, stop, status.", no_args_is_help=True)


@app.command()
def start(json: options.Json = False) -> None:
    """Start the local cloud; other commands do it by themselves when they need it."""
    from dataclasses import asdict

    from labtool import localcloud
    from labtool.cli import render
    from labtool.cli.connect import settings
    from labtool.cli.display import Display

    chosen = settings().local
    with Display() as display:
        endpoint = localcloud.start(chosen, display.line)
    if json:
        render.data(asdict(endpoint))
        return
    print(f"the local cloud answers at {endpoint.url} (region {endpoint.region})")
    print("another AWS client uses it with these:")
    print(f"  export AWS_ENDPOINT_URL={endpoint.url} AWS_DEFAULT_REGION={endpoint.region}")
    print(f"  export AWS_ACCESS_KEY_ID={endpoint.access_key} AWS_SECRET_ACCESS_KEY={endpoint.secret_key}")


@app.command()
def stop(
    purge: Annotated[bool, typer.Option("--purge", help="Also remove the host image and the package cache.")] = False,
    json: options.Json = False,
) -> None:
    """End the local cloud, its hosts, network, mounts and processes.

    Not while another labtool changes or measures one of its labs.
    """
    from labtool import localcloud, lock
    from labtool.cli import render
    from labtool.cli.connect import settings
    from labtool.cli.display import Display

    chosen = settings().local
    existed = localcloud.exists(chosen)
    with Display() as display, ExitStack() as held:
        for folder in _labs(chosen.name):
            for what in (lock.CHANGE, lock.MEASURE):
                held.enter_context(lock.hold(folder, folder.name, what))
        localcloud.stop(chosen, display.line, purge=purge)
    if json:
        render.data({"name": chosen.name, "existed": existed, "purged": purge})
        return
    print("the local cloud is gone: no host, network, route, mount or process of it is left")


@app.command()
def status(json: options.Json = False) -> None:
    """Tell whether the local cloud runs, and what it holds."""
    from dataclasses import asdict

    from labtool import localcloud
    from labtool.cli import render
    from labtool.cli.connect import settings

    found = localcloud.status(settings().local)
    if json:
        render.data(asdict(found) if found else None)
    elif found is None:
        print("the local cloud does not run; `labtool cloud start` starts it")
    else:
        render.table(("WHAT", ""), [(key.replace("_", " "), _text(value)) for key, value in asdict(found).items()])


def doctor(
    hosts: Annotated[
        int | None,
        typer.Option("--hosts", help="Also: what this many more local hosts would need.", min=1, metavar="N"),
    ] = None,
    cloud: options.Cloud = None,
    json: options.Json = False,
) -> None:
    """Tell what this machine lacks.

    Names the command that mends it; fails if something is missing.
    """
    from dataclasses import asdict

    from labtool.cli import render
    from labtool.cli.checks import programs
    from labtool.cli.connect import needs, settings

    found = [*programs(), *needs(settings(cloud=cloud), hosts)]
    if json:
        render.data([asdict(check) for check in found])
    else:
        for check in found:
            mark = "ok  " if check.ok else "MISS" if check.needed else "note"
            print(f"{mark}  {check.name}: {check.detail}")
            if not check.ok and check.mend:
                print(f"      {check.mend}")
    if not all(check.ok for check in found if check.needed):
        raise typer.Exit(1)


def _labs(name: str) -> list[Path]:
    """Return the folders of what this user keeps about the labs of the local cloud `name`."""
    from labtool import config
    from labtool.localcloud.lifecycle import REGION

    return sorted((config.home() / "labs" / f"local-{name}-{REGION}").glob("*/"))


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} {name}" for name, count in value.items()) or "none"
    return str(value)
