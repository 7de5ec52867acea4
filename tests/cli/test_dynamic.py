import subprocess
import sys
from typing import Annotated

import pytest
import typer

from labtool import content
from labtool.cli.dynamic import command_for, command_group
from labtool.errors import ConfigError, UsageError
from labtool.stacks import Option, Stack

SHOP = """\
description: A shop
options:
  fronts: {type: int, default: 2, min: 1, max: 9, help: Front servers.}
  item_size: {type: int, default: 100, unit: bytes, var: item_size, help: Size of an item.}
  mode: {type: str, default: fast, choices: [fast, safe], help: How.}
  share: {type: float, default: 0.5, min: 0, help: Share.}
  tls: {type: bool, default: true, help: Encrypt.}
  from: {type: str, help: A keyword of Python.}
  root: {type: path, help: A folder.}
groups: {front: {count: "{fronts}", type: t3.small}}
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    (tmp_path / "web-shop.stack.yml").write_text(SHOP)
    (tmp_path / "web-shop.yml").write_text("[]\n")
    monkeypatch.setattr(content, "playbooks", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def calls():
    return []


@pytest.fixture
def run(shop, calls):
    def deploy(
        stack: Stack,
        given: dict,
        *,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
        lab: Annotated[str | None, typer.Option("--lab", help="The lab.")] = None,
    ) -> int:
        """Deploy a stack."""
        calls.append((stack, given, yes, lab))
        return 7

    app = typer.Typer(rich_markup_mode=None)
    app.add_typer(command_group("stack", deploy), name="deploy")
    command = typer.main.get_command(app)

    def run(*words: str):
        return command.main(list(words), prog_name="labtool", standalone_mode=False)

    return run


def test_a_stacks_options_are_options_of_its_command(run, calls):
    assert run("deploy", "web-shop", "--fronts", "3", "--item-size=64", "--no-tls", "--from", "here", "-y") == 7
    ((stack, given, yes, lab),) = calls
    assert stack.name == "web-shop"
    assert given == {"fronts": 3, "item_size": 64, "tls": False, "from": "here"}
    assert (yes, lab) == (True, None)
    assert stack.values(given)["share"] == 0.5


def test_a_path_is_made_absolute(run, calls, shop, monkeypatch):
    monkeypatch.chdir(shop)
    run("deploy", "web-shop", "--root", "web-shop.yml")
    assert calls[0][1] == {"root": str(shop / "web-shop.yml")}
    with pytest.raises(UsageError, match="--root: 'none' is not a file or folder that is there"):
        run("deploy", "web-shop", "--root", "none")


def test_what_was_not_typed_is_not_given(run, calls):
    run("deploy", "web-shop", "--lab", "demo")
    assert calls[0][1:] == ({}, False, "demo")


def test_help_shows_defaults_units_and_limits(run, capsys):
    run("deploy", "web-shop", "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "A shop." in text
    assert "--fronts N Front servers. [default: 2; 1…9]" in text
    assert "--item-size N Size of an item. [bytes; default: 100]" in text
    assert "--mode fast|safe How. [default: fast]" in text
    assert "--tls / --no-tls Encrypt. [default: true]" in text
    assert "--root PATH A folder." in text
    assert "-y, --yes Don't ask." in text


def test_the_groups_help_lists_what_is_declared(run, capsys):
    run("deploy", "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "Deploy a stack." in text
    assert "web-shop A shop." in text


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["web-shpo"], "unknown stack: web-shpo", "web-shop"),
        (["web-shop", "--fronts", "0"], "--fronts: '0' is not a whole number from 1 to 9", "Front servers."),
        (["web-shop", "--fronts", "many"], "--fronts: 'many' is not a whole number", None),
        (["web-shop", "--mode", "slow"], "--mode: 'slow' is not one of fast, safe", None),
    ],
)
def test_what_is_wrong_is_named(run, calls, words, message, hint):
    with pytest.raises(UsageError) as error:
        run("deploy", *words)
    assert message in error.value.message
    assert not hint or hint in error.value.hint
    assert not calls


def test_an_unknown_option_gets_the_nearest_names(run):
    with pytest.raises(Exception) as error:
        run("deploy", "web-shop", "--front", "3")
    assert "--fronts" in error.value.format_message()


def test_an_option_that_every_command_has_is_refused(shop):
    def deploy(stack, given, *, lab: Annotated[str | None, typer.Option("--lab")] = None):
        raise AssertionError

    declared = Stack("x", "", shop / "x.stack.yml", shop / "x.yml", {"lab": Option("lab", "str")})
    with pytest.raises(ConfigError, match=r"x\.stack\.yml: options\.lab: every command has --lab already"):
        command_for(declared, deploy)


def test_declarations_are_read_only_when_they_are_needed():
    program = (
        "import sys, typer\n"
        "from labtool.cli.dynamic import command_group\n"
        "app = typer.Typer(rich_markup_mode=None)\n"
        "app.add_typer(command_group('stack', lambda declared, given: None, help='Deploy.'), name='deploy')\n"
        "typer.main.get_command(app).main(['--help'], standalone_mode=False)\n"
        "heavy = {'pydantic', 'msgspec', 'yaml', 'labtool.stacks', 'labtool.config', 'ansible', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deploy" in done.stdout
