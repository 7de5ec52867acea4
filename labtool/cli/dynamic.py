"""Commands made from declarations: `labtool deploy kafka-cluster --brokers 5` is nowhere written down but in a file.

Nothing is read before such a command is asked for: `labtool --help` costs what it costs without them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from labtool.option import Option
    from labtool.stacks import Declared

Kind = Literal["stack", "workload"]
Handler = Callable[..., Any]
"""Called with the declaration, the values that were typed ({name: value}) and its own options by name."""


def command_group(
    kind: Kind, handler: Handler, *, help: str | None = None, choose: Callable[[Any], Handler] | None = None
) -> typer.Typer:
    """Return a Typer app whose commands are all stacks (or workloads), for `app.add_typer(…, name="deploy")`.

    `handler(declared, given, **options)` does the work. `declared` is the Stack or Workload; `given` holds the values
    that were typed, checked, and not the defaults: `declared.values({**remembered, **given})` adds those. Its other
    parameters, typed for Typer, become options of every command. `choose` names the handler of a declaration where
    not all have the same one.
    """

    class Commands(_Commands):
        pass

    Commands.kind, Commands.choose = kind, staticmethod(choose or (lambda declared: handler))
    app = typer.Typer(
        cls=Commands,
        help=help or inspect.getdoc(handler),
        no_args_is_help=True,
        subcommand_metavar=f"{kind.upper()} [OPTIONS]",
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(lambda: None)
    return app


def command_for(declared: Declared, handler: Handler) -> Any:
    """Return the command that calls `handler` for one declaration."""
    # Typer reads a command's parameters from its signature; ours is made here, so that only Typer's public way
    # of declaring options is used, whichever parser is underneath.
    own = list(inspect.signature(handler, eval_str=True).parameters.values())[2:]
    taken = {name for each in own for name in (each.name, *_flags(each))}

    def run(**given: Any) -> Any:
        typed = {name: given.pop(_parameter(name)) for name in declared.options}
        values = {
            name: option.value(typed[name]) for name, option in declared.options.items() if typed[name] is not None
        }
        return handler(declared, values, **given)

    options = []
    for option in declared.options.values():
        if option.flag in taken or option.name in taken:
            from labtool.errors import ConfigError

            raise ConfigError(f"{declared.file}: options.{option.name}: every command has {option.flag} already")
        options.append(_declared_parameter(option))
    keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    run.__signature__ = inspect.Signature([*options, *keyword])  # type: ignore[attr-defined]
    run.__name__ = declared.name.replace("-", "_")

    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(declared.name, help=_help(declared), context_settings={"help_option_names": ["-h", "--help"]})(run)
    return get_command(app)


class _Commands(TyperGroup):
    """The commands of a group, read from the declarations when they are needed."""

    kind: Kind
    choose: Callable[[Any], Handler]

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all declarations."""
        from labtool import stacks

        return list(stacks.names(self.kind))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of one declaration; `UsageError` with the nearest names if there is none."""
        from labtool import stacks

        if cmd_name not in stacks.names(self.kind) and ctx.resilient_parsing:
            return None  # the shell completes a word that is not finished
        declared = stacks.stack(cmd_name) if self.kind == "stack" else stacks.workload(cmd_name)
        return command_for(declared, self.choose(declared))


def _declared_parameter(option: Option) -> inspect.Parameter:
    # As text: `Declared.values` checks it, and says the same here as for a file.
    kind: type = bool if option.type == "bool" else str
    details: dict[str, Any] = {"help": _option_help(option), "show_default": False}
    if option.type == "bool":
        flags = (f"{option.flag}/--no-{option.flag[2:]}",)
    else:
        flags = (option.flag,)
        details["metavar"] = (
            "|".join(map(str, option.choices)) or {"int": "N", "float": "X", "str": "TEXT", "path": "PATH"}[option.type]
        )
    return inspect.Parameter(
        _parameter(option.name),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, typer.Option(*flags, **details)],
    )


def _option_help(option: Option) -> str:
    from labtool.option import number

    notes = [option.unit] if option.unit else []
    if option.default not in {None, ""}:
        shown = number(option.default) if isinstance(option.default, float) else str(option.default)
        notes.append(f"default: {shown.lower() if option.type == 'bool' else shown}")
    if option.min is not None and option.max is not None:
        notes.append(f"{number(option.min)}…{number(option.max)}")
    elif option.min is not None:
        notes.append(f"≥ {number(option.min)}")
    elif option.max is not None:
        notes.append(f"≤ {number(option.max)}")
    return f"{option.help} [{'; '.join(notes)}]" if notes else option.help


def _help(declared: Declared) -> str:
    return declared.description.rstrip(".") + "."


def _parameter(name: str) -> str:
    """Return a parameter's name for an option: one that is no keyword of Python and none of the handler's."""
    return f"option_{name}"


def _flags(parameter: inspect.Parameter) -> tuple[str, ...]:
    """Return the flags that a parameter of a handler is typed with."""
    stated = tuple(
        declaration
        for note in getattr(parameter.annotation, "__metadata__", ())
        for declaration in getattr(note, "param_decls", None) or ()
    )
    return tuple(part for flag in stated for part in flag.split("/")) or ("--" + parameter.name.replace("_", "-"),)
