"""Workload and driver files of OpenMessaging Benchmark (OMB), as options of `kafka-throughput`.

The fields are those of its Workload.java and of its Kafka driver's Config.java
(https://github.com/openmessaging/benchmark). What would not be what a file asks for is refused; what makes no
difference to it becomes a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct

from labtool import checked
from labtool.checked import RefusedError
from labtool.errors import ConfigError, UsageError

KAFKA = "io.openmessaging.benchmark.driver.kafka.KafkaBenchmarkDriver"
DRIVER = "Kafka"
KEYS = {"NO_KEY": "none", "KEY_ROUND_ROBIN": "round-robin", "RANDOM_NANO": "random"}
OPTIONS = {
    "topics": "topics",
    "partitionsPerTopic": "partitions",
    "keyDistributor": "keys",
    "messageSize": "record_size",
    "randomBytesRatio": "random",
    "randomizedPayloadPoolSize": "pool",
    "payloadFile": "payload",
    "subscriptionsPerTopic": "subscriptions",
    "consumerPerSubscription": "consumers",
    "producersPerTopic": "producers",
    "producerRate": "rate",
    "replicationFactor": "replication",
    "topicConfig": "topic_properties",
    "producerConfig": "properties",
    "consumerConfig": "consumer_properties",
}
"""Their fields and our options."""

OURS = ("client.id", "group.id", "key.serializer", "value.serializer", "key.deserializer", "value.deserializer")
"""Settings that the clients set themselves, as OMB's do or for their logs."""
SECURE = ("security.", "sasl.", "ssl.")


Amount = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Ratio = Annotated[float, Meta(ge=0, le=1)]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class WorkloadFile(_File, frozen=True, kw_only=True):
    """OMB's Workload.java, with its defaults; what has none there is 0 there, which means nothing."""

    name: str | None = None
    topics: Count
    partitionsPerTopic: Count  # noqa: N815 - OMB's name, and so are those below
    keyDistributor: Literal["NO_KEY", "KEY_ROUND_ROBIN", "RANDOM_NANO"] = "NO_KEY"  # noqa: N815
    messageSize: Count  # noqa: N815
    useRandomizedPayloads: bool = False  # noqa: N815
    randomBytesRatio: Ratio = 0.0  # noqa: N815
    randomizedPayloadPoolSize: Amount = 0  # noqa: N815
    payloadFile: str | None = None  # noqa: N815
    subscriptionsPerTopic: Amount  # noqa: N815
    producersPerTopic: Count  # noqa: N815
    consumerPerSubscription: Amount  # noqa: N815
    producerRate: Amount  # noqa: N815
    consumerBacklogSizeGB: Amount = 0  # noqa: N815
    backlogDrainRatio: Ratio = 1.0  # noqa: N815
    testDurationMinutes: Amount  # noqa: N815
    warmupDurationMinutes: Amount = 1  # noqa: N815


class DriverFile(_File, frozen=True, kw_only=True):
    """OMB's DriverConfiguration.java and its Kafka driver's Config.java."""

    name: str = DRIVER
    driverClass: str  # noqa: N815
    replicationFactor: Count  # noqa: N815
    reset: bool = False  # every load has topics of its own here
    topicConfig: str = ""  # noqa: N815
    commonConfig: str = ""  # noqa: N815
    producerConfig: str = ""  # noqa: N815
    consumerConfig: str = ""  # noqa: N815


@dataclass(frozen=True)
class Asked:
    """What files ask for: values of options, how long is measured after which warm-up, and what differs from them."""

    values: dict[str, Any]
    whence: dict[str, str]  # option → the file and the field that it is of
    seconds: float | None = None
    warmup_s: float | None = None
    notes: tuple[str, ...] = ()
    latency: Literal["intended"] | None = None


def asked(typed: Mapping[str, Any], minutes: float | None) -> Asked:
    """Return what the files that were typed ask for; an option that was typed wins over them.

    `minutes` is the window that was typed. `ConfigError` names the file and the field, `UsageError` what this workload
    cannot do and the way out.
    """
    workload, driver = (Path(typed[name]) if name in typed else None for name in ("omb_workload", "omb_driver"))
    values: dict[str, Any] = {"client": "worker"} if workload or driver else {}
    notes: list[str] = []
    seconds = warmup_s = None
    settings = dict(_driver(driver, values, notes)) if driver else {}
    compressed = str({**settings, **_words(typed.get("properties"))}.get("compression.type", "none")) != "none"
    if workload:
        read = _read(workload, WorkloadFile)
        _refuse(workload, read, typed, minutes)
        values |= _load(workload, read, typed, compressed, notes)
        warmup_s = 60.0 * read.warmupDurationMinutes
        seconds = 60.0 * read.testDurationMinutes or None
    fields = {option: field for field, option in OPTIONS.items()} | {"acks": "producerConfig", "client": "client"}
    for name in sorted(values.keys() & typed.keys()):
        if name != "client" and typed[name] != values[name]:
            flag = "--" + name.replace("_", "-")
            notes.append(f"{flag} {typed[name]!r} was typed, and is used instead of {fields[name]}: {values[name]!r}")
    left = {name: value for name, value in values.items() if name not in typed}
    of_driver = set(DriverFile.__struct_fields__)
    whence = {name: f"{driver if fields[name] in of_driver else workload}: {fields[name]}" for name in left}
    done = {**left, **typed}
    paced = done.get("client") == "worker" and done.get("rate", 1) > 0
    return Asked(left, whence, seconds, warmup_s, tuple(notes), "intended" if paced else None)


def names(workload: Path | None, driver: Path | None) -> tuple[str | None, str]:
    """Return how the files call the workload (None: not at all) and the driver."""
    of_workload = _read(workload, WorkloadFile).name or workload.stem if workload else None
    return of_workload, _read(driver, DriverFile).name if driver else DRIVER


def check(values: Mapping[str, Any]) -> None:
    """Refuse what Kafka's own tools cannot do, and a payload that is not a record's size."""
    worker = {
        "topics": 1, "subscriptions": 1, "keys": "none", "random": 1, "pool": 100,
        "payload": None, "consumer_properties": "",
    }  # fmt: skip
    if values["client"] != "worker":
        for name, plain in worker.items():
            if values[name] != plain:
                flag = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{flag} {values[name]}: Kafka's performance tools cannot do that", "add --client worker"
                )
        for name in ("producers", "consumers"):
            if values[name] > 64:
                raise UsageError(f"--{name} {values[name]}: a JVM each, 64 at most", "add --client worker")
    elif values["payload"] and (size := Path(values["payload"]).stat().st_size) != values["record_size"]:
        raise UsageError(
            f"{values['payload']} has {size} bytes, and a record {values['record_size']}",
            f"--record-size {size}, or another --payload",
        )


def _refuse(file: Path, read: WorkloadFile, typed: Mapping[str, Any], minutes: float | None) -> None:
    if read.consumerBacklogSizeGB:
        raise UsageError(
            f"{file}: consumerBacklogSizeGB: {read.consumerBacklogSizeGB}: consumers are not paused here to let a "
            "backlog grow",
            "set it to 0 for the same load with consumers that keep up",
        )
    if read.producerRate == 0 and "rate" not in typed:
        raise UsageError(
            f"{file}: producerRate: 0 asks to find the highest rate that consumers follow, which kafka-throughput does "
            "not",
            "name a rate with --rate N, or --rate -1 to send as fast as possible",
        )
    if read.testDurationMinutes == 0 and minutes is None:
        raise UsageError(f"{file}: testDurationMinutes: 0 has no end", "name the window with --minutes N")
    if read.useRandomizedPayloads and not read.randomizedPayloadPoolSize and "pool" not in typed:
        raise UsageError(
            f"{file}: useRandomizedPayloads needs a randomizedPayloadPoolSize above 0", "or name it with --pool N"
        )


def _load(
    file: Path, read: WorkloadFile, typed: Mapping[str, Any], compressed: bool, notes: list[str]
) -> dict[str, Any]:
    """Return the options that a workload's fields are."""
    plain = {"keyDistributor", "randomBytesRatio", "randomizedPayloadPoolSize", "payloadFile"}
    values = {option: getattr(read, f) for f, option in OPTIONS.items() if f not in plain and hasattr(read, f)}
    values["keys"] = KEYS[read.keyDistributor]
    if read.useRandomizedPayloads:
        return values | {"random": read.randomBytesRatio, "pool": read.randomizedPayloadPoolSize}
    if "payload" in typed:
        return values
    found = _payload(file, read.payloadFile)
    if found is not None:
        return values | {"payload": str(found)}
    why = f"payloadFile {read.payloadFile} is not there" if read.payloadFile else "there is no payloadFile"
    if compressed:
        raise UsageError(
            f"{file}: {why}, and how it compresses depends on it",
            "name one with --payload FILE, or set useRandomizedPayloads, randomBytesRatio and "
            "randomizedPayloadPoolSize",
        )
    notes.append(f"{why}: records are of random bytes, which makes no difference without compression")
    return values


def _payload(file: Path, name: str | None) -> Path | None:
    """Return a payload file, which OMB looks for in its own folder, above `workloads/`."""
    folders = (file.parent, file.parent.parent, Path.cwd())
    return next(((folder / name).absolute() for folder in folders if name and (folder / name).is_file()), None)


def _driver(file: Path, values: dict[str, Any], notes: list[str]) -> dict[str, str]:
    """Add a driver's options to `values`; return its producers' settings."""
    read = _read(file, DriverFile)
    if read.driverClass != KAFKA:
        raise UsageError(
            f"{file}: driverClass: {read.driverClass} is not Kafka's", f"kafka-throughput drives Kafka: {KAFKA}"
        )
    common = _settings(file, "commonConfig", read.commonConfig, notes)
    producer = common | _settings(file, "producerConfig", read.producerConfig, notes)
    consumer = common | _settings(file, "consumerConfig", read.consumerConfig, notes)
    acks = producer.pop("acks", None)
    if acks is not None:
        values["acks"] = "all" if acks == "-1" else acks
    if "transactional.id" in producer:
        raise UsageError(f"{file}: producerConfig: transactional.id: there are no transactions here", "leave it out")
    values |= {
        "replication": read.replicationFactor,
        "topic_properties": _joined(_settings(file, "topicConfig", read.topicConfig, notes)),
        "properties": _joined(producer),
        "consumer_properties": _joined(consumer),
    }
    return producer


def _settings(file: Path, field: str, text: str, notes: list[str]) -> dict[str, str]:
    """Read a block of Java properties; what the lab or the clients set themselves is left out, with a note."""
    found = {}
    for key, value in properties(text):
        if key == "bootstrap.servers":
            notes.append(f"{field}: bootstrap.servers={value} is left out: the lab's own brokers are driven")
        elif key in OURS:
            notes.append(f"{field}: {key}={value} is left out: the clients set it themselves")
        elif key.startswith(SECURE) and (key, value) != ("security.protocol", "PLAINTEXT"):
            raise UsageError(
                f"{file}: {field}: {key}: the lab's brokers speak neither TLS nor SASL",
                "leave out security.*, sasl.* and ssl.*",
            )
        elif not value or any(one.isspace() for one in key + value):
            raise UsageError(f"{file}: {field}: {key}: {value!r} is no single word", "leave it out")
        else:
            found[key] = value
    return found


def properties(text: str) -> Iterator[tuple[str, str]]:
    """Yield the keys and values of Java properties (java.util.Properties.load, without its escapes of characters)."""
    pending = ""
    for raw in text.splitlines():
        line = pending + raw.strip()
        pending = ""
        if line.endswith("\\"):
            pending = line[:-1]
            continue
        if not line or line[0] in "#!":
            continue
        end = next((at for at, one in enumerate(line) if one in "=: \t"), len(line))
        rest = line[end:].lstrip()
        yield line[:end], (rest[1:] if rest[:1] in {"=", ":"} else rest).strip()


def _words(text: Any) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in str(text or "").split())


def _joined(settings: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())


F = TypeVar("F", bound=_File)


def _read(file: Path, model: type[F]) -> F:
    """Read a YAML file; `ConfigError` names the file, the field and what was expected, the nearest name too."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise ConfigError(f"{where}: {getattr(error, 'problem', None) or error}") from None
    kind = "workload" if model is WorkloadFile else "driver"
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: it holds no fields of an OpenMessaging Benchmark {kind}")
    # Nothing after the colon is the default; but a field that OMB has not is refused with or without a value.
    known = model.__struct_fields__
    given = {name: value for name, value in content.items() if value is not None or name not in known}
    try:
        return checked.convert(given, model)
    except RefusedError as error:
        raise ConfigError(*error.sentence(str(file), f"field of an OpenMessaging Benchmark {kind}")) from None
