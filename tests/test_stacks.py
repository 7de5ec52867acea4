from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtool import stacks
from labtool.errors import ConfigError, UsageError
from labtool.option import Option
from labtool.topology import GroupSpec, Host, Lab, VarSpec

KAFKA = """\
description: Apache Kafka in KRaft mode
options:
  brokers: {type: int, default: 3, min: 1, max: 99, help: Brokers.}
  controllers: {type: int, default: 0, choices: [0, 1, 3, 5], help: 0 is combined.}
  version: {type: str, default: "4.3.0", var: kafka_version}
  port: {type: int, default: 9092, var: kafka_port}
  heap: {type: str, var: kafka_heap}
  tls: {type: bool, default: false, var: kafka_tls}
  load_factor: {type: float, default: 1, min: 0, max: 1, var: kafka_load_factor, unit: ratio}
groups:
  kafka:
    count: "{brokers}"
    type: t3.medium
    vars: {kafka_node_id: {make: index, base: 1}, kafka_cluster_id: {make: uuid, scope: lab}}
  controller: {count: "{controllers}", type: t3.small}
endpoints:
  - {name: bootstrap servers, group: kafka, value: "{address}:{port}"}
"""

LOAD = """\
description: Producers and consumers
stack: kafka-cluster
options:
  rate: {type: int, default: 20000, unit: records/s, var: load_rate}
"""


@pytest.fixture
def folder(tmp_path):
    def write(text: str = KAFKA, name: str = "kafka-cluster", playbook: bool = True) -> Path:
        (tmp_path / f"{name}.stack.yml").write_text(text)
        if playbook:
            (tmp_path / f"{name}.yml").write_text("[]\n")
        return tmp_path

    return write


@pytest.fixture
def kafka(folder):
    return stacks.stacks(folder())["kafka-cluster"]


def host(group: str, index: int, state: str = "running") -> Host:
    address = f"198.18.0.{10 + index}"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Host(f"{group}-{index}", group, index, "i-1", state, "t3.small", address, address, "z", "ami", "admin", now)


def test_defaults(kafka):
    values = kafka.values()
    assert values == {
        "brokers": 3, "controllers": 0, "version": "4.3.0", "port": 9092, "heap": None, "tls": False,
        "load_factor": 1.0,
    }  # fmt: skip
    assert type(values["load_factor"]) is float
    assert kafka.extra_vars(values) == {
        "kafka_version": "4.3.0", "kafka_port": 9092, "kafka_tls": False, "kafka_load_factor": 1.0,
    }  # fmt: skip


def test_typed_text_becomes_values(kafka):
    values = kafka.values({"brokers": "5", "controllers": "3", "tls": "yes", "load-factor": "0.5", "heap": None})
    assert (values["brokers"], values["controllers"], values["tls"], values["load_factor"]) == (5, 3, True, 0.5)
    assert values["heap"] is None


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("brokers", "0", "a whole number from 1 to 99"),
        ("brokers", "three", "a whole number"),
        ("brokers", "3.5", "a whole number"),
        ("controllers", "2", "one of 0, 1, 3, 5"),
        ("load_factor", "nan", r"a number from 0 to 1 \(ratio\)"),
        ("load_factor", "1.1", "a number from 0 to 1"),
        ("tls", "perhaps", "true or false"),
        ("brokers", True, "a whole number"),
    ],
)
def test_a_wrong_value_names_the_option_the_value_and_what_is_allowed(kafka, name, text, allowed):
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}: {text!r} is not {allowed}"):
        kafka.values({name: text})


def test_an_unknown_option_gets_the_nearest_names(kafka):
    with pytest.raises(UsageError, match="unknown option of kafka-cluster: --broker") as error:
        kafka.values({"broker": "3"})
    assert "--brokers" in error.value.hint


def test_groups(kafka):
    made = (VarSpec("kafka_node_id", "index", "host", 1), VarSpec("kafka_cluster_id", "uuid", "lab"))
    assert kafka.groups(kafka.values()) == (GroupSpec("kafka", 3, "t3.medium", made),)
    assert [(g.name, g.count) for g in kafka.groups(kafka.values({"controllers": 3}))] == [
        ("kafka", 3),
        ("controller", 3),
    ]
    assert kafka.group_names == ("kafka", "controller")


def test_a_count_that_is_true_or_false_is_one_or_none(folder):
    text = KAFKA.replace('count: "{controllers}"', 'count: "{tls}"')
    counted = stacks.stacks(folder(text))["kafka-cluster"]
    assert [(g.name, g.count) for g in counted.groups(counted.values({"tls": "yes"}))][1:] == [("controller", 1)]
    assert [g.name for g in counted.groups(counted.values({"tls": "no"}))] == ["kafka"]


def test_a_group_may_be_there_only_without_an_option(folder):
    text = KAFKA.replace('count: "{brokers}"', 'count: "{brokers}"\n    unless: tls')
    declared = stacks.stacks(folder(text))["kafka-cluster"]
    assert [g.name for g in declared.groups(declared.values({"tls": "yes"}))] == []
    assert [g.name for g in declared.groups(declared.values({"tls": "no"}))] == ["kafka"]


def test_endpoints_are_those_of_hosts_that_run(kafka):
    lab = Lab("demo", "r", (host("kafka", 0), host("kafka", 1, "stopped"), host("kafka", 2), host("load", 0)))
    (endpoint,) = kafka.endpoints(lab, kafka.values({"port": "9093"}))
    assert endpoint.name == "bootstrap servers"
    assert endpoint.text == "198.18.0.10:9093,198.18.0.12:9093"
    assert kafka.endpoints(Lab("demo", "r")) == ()


def test_options_in_words(kafka):
    words = ["--brokers", "5", "--tls", "--load-factor=0.5", "--version", "3.9.2"]
    assert kafka.parse(words) == {"brokers": "5", "tls": "true", "load_factor": "0.5", "version": "3.9.2"}
    assert kafka.parse(["--no-tls"]) == {"tls": "false"}
    with pytest.raises(UsageError, match="--brokers of kafka-cluster has no value"):
        kafka.parse(["--brokers"])
    with pytest.raises(UsageError, match="unknown option of kafka-cluster: --broker"):
        kafka.parse(["--broker", "3"])
    with pytest.raises(UsageError, match="takes no argument 'three'"):
        kafka.parse(["three"])


@given(st.integers(1, 99), st.sampled_from([0, 1, 3, 5]), st.booleans(), st.floats(0, 1))
def test_every_allowed_value_survives_being_typed(brokers, controllers, tls, factor):
    options = {
        "brokers": stacks.Option("brokers", "int", 3, min=1, max=99),
        "controllers": stacks.Option("controllers", "int", 0, choices=(0, 1, 3, 5)),
        "tls": stacks.Option("tls", "bool"),
        "factor": stacks.Option("factor", "float", min=0, max=1),
    }
    declared = stacks.Declared("x", "", Path(), Path(), options)
    values = {"brokers": brokers, "controllers": controllers, "tls": tls, "factor": factor}
    words = [word for name, value in values.items() for word in (f"--{name}={value}",)]
    assert declared.values(declared.parse(words)) == values
    assert declared.values(values) == values


def test_workloads_and_parsers(folder):
    root = folder()
    (root / "workloads").mkdir()
    for name, text in (("load.workload.yml", LOAD), ("load.yml", "[]"), ("load.py", "")):
        (root / "workloads" / name).write_text(text)
    load = stacks.workloads(root)["load"]
    assert load.stack == "kafka-cluster"
    assert load.groups({}) == ()
    assert load.parser == root / "workloads" / "load.py"
    assert stacks.stacks(root)["kafka-cluster"].parser is None
    assert stacks.names("workload", root) == ("load",)
    with pytest.raises(UsageError, match="unknown workload: laod") as error:
        stacks.workload("laod", root)
    assert "load" in error.value.hint


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("min: 1", "minn: 1", "options.brokers: unknown key: minn", "did you mean min"),
        ("endpoints:", "endpoint:", "top level: unknown key: endpoint", "endpoints"),
        ("make: index, base", "make: index, bass", "groups.kafka.vars.kafka_node_id: unknown key: bass", "base"),
        ("default: 3,", "default: 300,", "options.brokers: the default 300 is not a whole number from 1 to 99", None),
        ("default: 3,", 'default: "3",', "options.brokers: the default '3' is text, not a whole number", None),
        ('default: "4.3.0"', "default: 4.3", "options.version: the default 4.3 is not text: put it in quotes", None),
        ("choices: [0, 1", 'choices: ["a", 1', "options.controllers: the choice 'a' is not a whole number", None),
        ("choices: [0, 1", "choices: [2, 1", "options.controllers: the default 0 is not one of 2, 1, 3, 5", None),
        ("type: t3.small}", "type: t3.small, unless: brokers}", "controller.unless: 'brokers' is no option", None),
        ("{brokers}", "{broker}", "groups.kafka.count: '{broker}': unknown option: broker", None),
        ("{address}", "{address.__class__}", "unknown option: address.__class__", None),
        ("{address}", "{address", "endpoint 'bootstrap servers'", None),
        ("group: kafka", "group: kafk", "endpoint 'bootstrap servers': there is no group kafk", None),
        (
            "type: int, default: 3",
            "type: integer, default: 3",
            "options.brokers.type: must be int, float, str, bool or path (it is 'integer')",
            None,
        ),
        ("description: Apache Kafka in KRaft mode", "", "kafka-cluster.stack.yml: description is missing", None),
        ("make: uuid", "make: guid", "groups.kafka.vars.kafka_cluster_id.make: must be uuid or index (it is", None),
        ("  heap:", "  version:", ":7: 'version' stands twice", None),
        ("  heap:", "  He-ap:", "options: 'He-ap' is no name for an option", None),
        ("  kafka:\n", "  ungrouped:\n", "groups: 'ungrouped' is no name for a group", None),
        ("  kafka:\n", "  kaf-ka:\n", "groups: 'kaf-ka' is no name for a group", None),
        (
            "  tls: {type: bool, default: false",
            "  tls: {type: bool, min: 1, default: false",
            "min and max are for numbers",
            None,
        ),
        ("default: 3, ", "default: 3, within: kafka, ", "options.brokers: within is for workloads", None),
        ("  heap: {type: str, ", "  heap: {type: str, pattern: '[0-9]+g', ", "pattern and like go together", None),
        (
            'version: {type: str, default: "4.3.0", ',
            'version: {type: str, default: "4.3.0", pattern: "[0-9]", like: a digit, ',
            "options.version: the default '4.3.0' is not a digit",
            None,
        ),
        ("  tls: {type: bool, ", "  tls: {type: bool, within: kafka, ", "within is for a whole number", None),
        ("groups:", "groups: [", ":", None),
    ],
)
def test_a_wrong_declaration_names_file_and_key(folder, old, new, message, hint):
    assert old in KAFKA
    root = folder(KAFKA.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        stacks.stacks(root)
    assert str(root / "kafka-cluster.stack.yml") in error.value.message
    assert message in error.value.message
    if hint:
        assert hint in error.value.hint


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b\n"])
def test_a_file_that_declares_nothing(folder, text):
    with pytest.raises(ConfigError, match="holds no keys"):
        stacks.stacks(folder(text))


def test_the_playbook_must_be_beside_it(folder):
    with pytest.raises(ConfigError, match=r"kafka-cluster\.yml is missing"):
        stacks.stacks(folder(playbook=False))


def test_what_labtool_ships_is_declared_well():
    shipped = stacks.stacks()
    for workload in stacks.workloads().values():
        drives = [stack for stack in shipped.values() if workload.stack in (stack.name, *stack.provides)]
        bounds = {option.within for option in workload.options.values()} - {None}
        assert drives and all(bounds <= set(stack.group_names) for stack in drives)
    for declared in (*shipped.values(), *stacks.workloads().values()):
        values = declared.values()
        assert declared.groups(values) is not None
        assert all(option.help for option in declared.options.values()), declared.file


@pytest.mark.parametrize(
    ("stack", "option", "good", "bad"),
    [
        (
            "kafka-cluster",
            "version",
            ["3.9.1", "4.0.0", "4.3.0", "10.0.0"],
            ["3.8.1", "4.0", "", "../x", "4.3.0 "],
        ),
        ("spark-cluster", "version", ["3.5.9", "4.0.1", "4.3.0"], ["3.4.1", "2.4.8", "4.0", "latest"]),
        ("front-cluster", "spark_version", ["4.0.1"], ["3.4.1"]),
    ],
)
def test_a_release_that_cannot_be_is_refused_as_it_is_typed(stack, option, good, bad):
    found = stacks.stack(stack)
    for text in good:
        assert found.values({option: text})[option] == text
    for text in bad:
        with pytest.raises(UsageError, match=r"is not a release as 4\.[03]\.[01], 3\.[59] or newer"):
            found.values({option: text})


def test_a_path_is_of_something_that_is_there(tmp_path, monkeypatch):
    option = Option("trace", "path", help="The trace.")
    (tmp_path / "trace.csv").touch()
    monkeypatch.chdir(tmp_path)
    assert option.value("trace.csv") == str(tmp_path / "trace.csv"), "a playbook runs in another folder"
    with pytest.raises(UsageError, match=r"--trace: 'none.csv' is not a file or folder that is there"):
        option.value("none.csv")


@pytest.fixture
def workload(tmp_path):
    def write(more: str) -> stacks.Workload:
        (tmp_path / "workloads").mkdir(exist_ok=True)
        (tmp_path / "workloads/load.workload.yml").write_text(LOAD + more)
        (tmp_path / "workloads/load.yml").write_text("[]\n")
        return stacks.workload("load", tmp_path)

    return write


@pytest.mark.parametrize(
    ("more", "seconds"), [("", None), ("seconds: 30\n", 30), ('seconds: "{rate}"\n', 20000), ("seconds: 0.5\n", 0.5)]
)
def test_how_long_a_workload_takes_may_follow_from_its_options(workload, more, seconds):
    found = workload(more)
    assert found.seconds(found.values()) == seconds and not found.whole


@pytest.mark.parametrize("text", ["-5", "many", "nan", "inf", "{rate} s"])
def test_a_length_that_is_none_names_the_file(workload, text):
    found = workload(f'seconds: "{text}"\n')
    with pytest.raises(ConfigError, match=r"load\.workload\.yml: seconds: .* is no number above 0"):
        found.seconds(found.values())


def test_a_length_of_an_option_there_is_not_is_refused(workload):
    with pytest.raises(ConfigError, match=r"seconds: .*unknown option: rat.*did you mean rate"):
        workload('seconds: "{rat}"\n')


def test_a_stack_may_provide_what_others_deploy(folder):
    root = folder()
    folder(KAFKA + "provides: [kafka-cluster]\n", name="whole")
    folder(KAFKA, name="other")
    (root / "workloads").mkdir()
    (root / "workloads" / "load.workload.yml").write_text(LOAD)
    (root / "workloads" / "load.yml").write_text("[]")
    load = stacks.workload("load", root)
    assert stacks.driven(load, ["whole"], root) == "whole"
    assert stacks.driven(load, ["whole", "kafka-cluster"], root) == "kafka-cluster", "its own comes first"
    assert stacks.driven(load, ["other"], root) is None
    assert stacks.driven(load, ["of another labtool"], root) is None
    folder(KAFKA + "provides: [kafka]\n", name="whole")
    with pytest.raises(ConfigError, match="provides: there is no stack kafka"):
        stacks.stack("whole", root)


def test_hosts_of_a_group_may_be_in_others_too(folder):
    text = KAFKA.replace("type: t3.small}", "type: t3.small, also: [kafka, web]}")
    declared = stacks.stacks(folder(text))["kafka-cluster"]
    assert declared.groups(declared.values({"controllers": 1}))[1].also == ("kafka", "web")
    with pytest.raises(ConfigError, match=r"groups.controller.also: 'ka-fka' is no name"):
        stacks.stacks(folder(text.replace("[kafka, web]", "[ka-fka]")))
