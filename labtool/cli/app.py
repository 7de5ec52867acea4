"""The command line: which commands there are, and what their errors look like.

Nothing but typer is imported until a command runs: `labtool --help` costs what an empty typer program does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer

from labtool.cli import cloud, deploy, inventory, lab, measure, whole
from labtool.cli.dynamic import command_group

app = typer.Typer(
    name="labtool",
    help="Provision, deploy, drive and profile distributed systems, on AWS or on this machine.",
    epilog="First steps: labtool run countdown; labtool deploy kafka-cluster, then "
    "labtool profile --minutes 5 --workload kafka-throughput.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from labtool import __version__

        print(f"labtool {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a command."""


WORDS_FOLLOW = {"ignore_unknown_options": True, "allow_interspersed_args": False}
OPTIONS_FOLLOW = {"ignore_unknown_options": True, "allow_extra_args": True}

app.add_typer(
    command_group("stack", deploy.deploy_stack, help="Deploy a stack, launching what it needs."), name="deploy"
)
app.add_typer(
    command_group(
        "workload",
        measure.run_workload,
        help="Run a workload and report it.",
        choose=lambda workload: whole.run_whole if workload.whole else measure.run_workload,
    ),
    name="run",
)
app.command("profile", context_settings=OPTIONS_FOLLOW)(measure.profile)
app.command("report")(measure.report)
app.command("up")(lab.up)
app.command("status")(lab.status)
app.command("extend")(lab.extend)
app.command("ssh", context_settings=WORDS_FOLLOW)(lab.ssh)
app.command("exec", context_settings=WORDS_FOLLOW)(lab.exec_)
app.command("cp")(lab.cp)
app.command("inventory")(inventory.inventory)
app.command("down")(lab.down)
app.add_typer(cloud.app, name="cloud")
app.command("doctor")(cloud.doctor)


@cache
def _command() -> Any:
    """Return the parser of all commands, which who runs several command lines makes once."""
    return typer.main.get_command(app)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; errors are one line on stderr."""
    from labtool.errors import LabtoolError

    try:
        result = _command().main(list(arguments), prog_name="labtool", standalone_mode=False)
    except LabtoolError as error:
        print(f"labtool: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("labtool: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        return _refused(error)
    if result == 130:  # the parser has caught ^C
        print("labtool: interrupted", file=sys.stderr)
    return result if isinstance(result, int) else 0


def _refused(error: Exception) -> int:
    """Handle the command-line parser's own refusals; anything else is a bug of ours."""
    kind = type(error).__name__
    if kind == "Abort":
        print("labtool: interrupted", file=sys.stderr)
        return 130
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        message = error.format_message()
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "labtool"
        if kind == "NoArgsIsHelpError":
            print(message)
            return 2
        print(f"labtool: {message}\n  `{where} --help` tells what it takes", file=sys.stderr)
        return int(error.exit_code)
    from labtool.cli.bug import of_the_machine, report_bug

    if isinstance(error, OSError) and (told := of_the_machine(error)):
        print(f"labtool: {told}", file=sys.stderr)
        return 1
    print(f"labtool: a bug of ours: {kind}: {error}\n  details: {report_bug(error)}", file=sys.stderr)
    return 3
