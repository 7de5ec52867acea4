"""Requests and answers in the three protocols of CloudWatch: JSON, CBOR and Query (XML).

botocore chooses by its version and the service's model: JSON since 2025, CBOR where asked for, Query before.
"""

from __future__ import annotations

import gzip
import json
import re
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from labtool.localcloud.cloudwatch import cbor
from labtool.localcloud.cloudwatch.cbor import Stamp

TARGET = "GraniteServiceVersion20100801"
_XMLNS = "http://monitoring.amazonaws.com/doc/2010-08-01/"
_MAX_BODY = 16 << 20
_CBOR_PATH = re.compile(rf"/service/{TARGET}/operation/(\w+)$")


class ApiError(Exception):
    """What CloudWatch answers when it refuses a request."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


@dataclass(frozen=True)
class Call:
    """A request: its operation and parameters, and the protocol to answer in (`json`, `cbor`, `query`)."""

    operation: str
    parameters: Mapping[str, Any]
    protocol: str


@dataclass(frozen=True)
class MetricResult:
    """One query's answer in GetMetricData; times and values of equal length."""

    id: str
    label: str
    times: Sequence[int]
    values: Sequence[float]
    status: str = "Complete"


Answer = tuple[int, dict[str, str], bytes]


def operation(environ: Mapping[str, Any]) -> str | None:
    """Return the operation if the request says it outside its body (JSON and CBOR); None for Query."""
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return str(target.rpartition(".")[2])
    found = _CBOR_PATH.search(environ.get("PATH_INFO", ""))
    return found[1] if found else None


def read_body(environ: Mapping[str, Any]) -> bytes:
    """Return the request's body, decompressed."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > _MAX_BODY:
        raise ApiError("RequestEntityTooLarge", "the request is too large", 413)
    body: bytes = environ["wsgi.input"].read(length)
    if environ.get("HTTP_CONTENT_ENCODING", "") == "gzip":
        body = gzip.decompress(body)
    return body


def parse(environ: Mapping[str, Any], body: bytes) -> Call:
    """Return the call of a request; `ApiError` if it cannot be understood."""
    name = operation(environ)
    try:
        if environ.get("HTTP_SMITHY_PROTOCOL") == "rpc-v2-cbor":
            return Call(name or "", cbor.loads(body) if body else {}, "cbor")
        if name is not None:
            return Call(name, json.loads(body or b"{}"), "json")
        flat = dict(parse_qsl(body.decode() or environ.get("QUERY_STRING", ""), keep_blank_values=True))
    except ValueError as error:
        raise ApiError("MalformedInput", str(error)) from None
    return Call(flat.pop("Action", ""), nest(flat), "query")


def nest(flat: Mapping[str, str]) -> dict[str, Any]:
    """Turn Query's flat keys (`MetricData.member.1.Value`) into dictionaries and lists."""
    root: dict[str, Any] = {}
    for key, value in flat.items():
        parts = key.split(".")
        at = root
        for part in parts[:-1]:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise ApiError("MalformedQueryString", f"{key} is a value and a structure")
        at[parts[-1]] = value
    return {key: _lists(value) for key, value in root.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    members = value.get("member")
    if isinstance(members, dict) and len(value) == 1:
        try:
            return [_lists(members[index]) for index in sorted(members, key=int)]
        except ValueError:
            raise ApiError("MalformedQueryString", "a list's index is no number") from None
    return {key: _lists(item) for key, item in value.items()}


def moment(value: Any, name: str) -> float:
    """Return a timestamp of any protocol as Unix seconds."""
    if isinstance(value, (int, float)):
        return float(value)
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        raise ApiError("InvalidParameterValue", f"The value {value} for parameter {name} is invalid.") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def iso(seconds: float) -> str:
    """Return Unix seconds as Query writes them."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def answer(call: Call, result: Mapping[str, Any]) -> Answer:
    """Write an answer; timestamps in `result` are `Stamp`s."""
    if call.protocol == "cbor":
        return _cbor(cbor.dumps(result))
    if call.protocol == "json":
        return _json(json.dumps(result, separators=(",", ":")).encode())
    return _query(call.operation, _xml(result))


def metric_data(call: Call, results: Sequence[MetricResult], token: str | None) -> Answer:
    """Write GetMetricData's answer.

    It can hold 100,800 points, so it is put together by hand, and equal columns of times are written once.
    """
    if call.protocol == "cbor":
        return _cbor(_metric_data_cbor(results, token))
    if call.protocol == "json":
        return _json(_metric_data_json(results, token))
    return _query(call.operation, _metric_data_xml(results, token))


def refuse(call: Call, error: ApiError) -> Answer:
    """Write an error."""
    kind = "Sender" if error.status < 500 else "Receiver"
    body = {"__type": f"com.amazonaws.cloudwatch.v2010_08_01#{error.code}", "message": error.message}
    headers = {"x-amzn-query-error": f"{error.code};{kind}"}
    if call.protocol == "query":
        text = (
            f'<ErrorResponse xmlns="{_XMLNS}"><Error><Type>{kind}</Type><Code>{escape(error.code)}</Code>'
            f"<Message>{escape(error.message)}</Message></Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
        )
        return error.status, {"Content-Type": "text/xml"}, text.encode()
    write = _cbor if call.protocol == "cbor" else _json
    encoded = cbor.dumps(body) if call.protocol == "cbor" else json.dumps(body).encode()
    _, more, content = write(encoded)
    return error.status, more | headers, content


def _json(body: bytes) -> Answer:
    return 200, {"Content-Type": "application/x-amz-json-1.0", "x-amzn-RequestId": str(uuid.uuid4())}, body


def _cbor(body: bytes) -> Answer:
    headers = {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
    return 200, headers | {"x-amzn-RequestId": str(uuid.uuid4())}, body


def _query(name: str, inner: str) -> Answer:
    text = (
        f'<{name}Response xmlns="{_XMLNS}"><{name}Result>{inner}</{name}Result>'
        f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{name}Response>"
    )
    return 200, {"Content-Type": "text/xml"}, text.encode()


def _xml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "".join(f"<{key}>{_xml(item)}</{key}>" for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return "".join(f"<member>{_xml(item)}</member>" for item in value)
    if isinstance(value, Stamp):
        return iso(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return escape(str(value))


def _metric_data_json(results: Sequence[MetricResult], token: str | None) -> bytes:
    times: dict[int, tuple[Sequence[int], str]] = {}
    parts = []
    for result in results:
        if id(result.times) not in times:
            times[id(result.times)] = (result.times, ",".join(map(str, result.times)))
        parts.append(
            f'{{"Id":{json.dumps(result.id)},"Label":{json.dumps(result.label)},'
            f'"Timestamps":[{times[id(result.times)][1]}],"Values":[{",".join(map(repr, result.values))}],'
            f'"StatusCode":"{result.status}"}}'
        )
    tail = f',"NextToken":{json.dumps(token)}' if token else ""
    return f'{{"MetricDataResults":[{",".join(parts)}],"Messages":[]{tail}}}'.encode()


def _metric_data_cbor(results: Sequence[MetricResult], token: str | None) -> bytes:
    times: dict[int, tuple[Sequence[int], bytes]] = {}
    out = bytearray(cbor.head(5, 3 if token else 2))
    out += cbor.dumps("MetricDataResults") + cbor.head(4, len(results))
    for result in results:
        size = len(result.times)
        if id(result.times) not in times:
            packed = struct.pack(f">{'HI' * size}", *chain.from_iterable((0xC11A, t) for t in result.times))
            times[id(result.times)] = (result.times, cbor.head(4, size) + packed)
        values = struct.pack(f">{'Bd' * size}", *chain.from_iterable((0xFB, value) for value in result.values))
        out += cbor.head(5, 5) + cbor.dumps("Id") + cbor.dumps(result.id)
        out += cbor.dumps("Label") + cbor.dumps(result.label)
        out += cbor.dumps("Timestamps") + times[id(result.times)][1]
        out += cbor.dumps("Values") + cbor.head(4, size) + values
        out += cbor.dumps("StatusCode") + cbor.dumps(result.status)
    out += cbor.dumps("Messages") + cbor.head(4, 0)
    if token:
        out += cbor.dumps("NextToken") + cbor.dumps(token)
    return bytes(out)


def _metric_data_xml(results: Sequence[MetricResult], token: str | None) -> str:
    times: dict[int, tuple[Sequence[int], str]] = {}
    parts = ["<MetricDataResults>"]
    for result in results:
        if id(result.times) not in times:
            text = "".join(f"<member>{iso(t)}</member>" for t in result.times)
            times[id(result.times)] = (result.times, text)
        values = "</member><member>".join(map(repr, result.values))
        parts.append(
            f"<member><Id>{escape(result.id)}</Id><Label>{escape(result.label)}</Label>"
            f"<Timestamps>{times[id(result.times)][1]}</Timestamps>"
            f"<Values>{f'<member>{values}</member>' if result.values else ''}</Values>"
            f"<StatusCode>{result.status}</StatusCode></member>"
        )
    parts.append("</MetricDataResults><Messages></Messages>")
    if token:
        parts.append(f"<NextToken>{escape(token)}</NextToken>")
    return "".join(parts)
