"""The wire: EC2's and query's form-encoded requests and XML answers, JSON's for SSM, after botocore's own models."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import datetime
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

from botocore.awsrequest import AWSResponse


class InvalidRequestError(AssertionError):
    """A request that AWS's own description of the operation forbids."""


def parse(operation: Any, request: Any) -> dict[str, Any]:
    """Return a request's parameters by their names in the model."""
    body = request.body or b""
    if isinstance(body, str):
        body = body.encode()
    if operation.service_model.resolved_protocol == "json":
        found = json.loads(body or b"{}")
    elif operation.service_model.resolved_protocol == "rest-xml":
        return _of_address(operation, request)  # no body that the fake would read
    else:
        tree: dict[str, Any] = {}
        for key, value in parse_qsl(body.decode(), keep_blank_values=True):
            if key in ("Action", "Version"):
                continue
            at = tree
            *path, last = key.split(".")
            for part in path:
                at = at.setdefault(part, {})
            at[last] = value
        ec2 = operation.service_model.resolved_protocol == "ec2"
        found = _read(operation.input_shape, tree, ec2) if operation.input_shape else {}
    check(operation.input_shape, found, operation.name)
    return dict(found)


def _of_address(operation: Any, request: Any) -> dict[str, Any]:
    """Read what stands in the address and the headers, where REST has its parameters."""
    address = urlsplit(request.url)
    host, path = address.netloc.split(".s3", 1)[0], address.path.strip("/")
    given = {"Bucket": path.split("/")[0] if address.netloc.startswith("s3.") else host}
    asked = {**dict(parse_qsl(address.query, keep_blank_values=True)), **request.headers}
    members = operation.input_shape.members if operation.input_shape else {}
    found = {name: asked.get(str(member.serialization.get("name", name))) for name, member in members.items()}
    found |= {name: value for name, value in given.items() if name in members}
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in found.items()
        if value is not None
    }


def check(shape: Any, value: Any, where: str) -> None:
    """Hold a value against the model's enums, patterns and bounds, which botocore does not enforce."""
    if shape is None:
        return
    bounds = shape.metadata
    if shape.type_name == "structure":
        for name, part in value.items():
            check(shape.members[name], part, f"{where}.{name}")
        for name in shape.required_members:
            if name not in value:
                raise InvalidRequestError(f"{where}.{name} is missing")
        return
    if shape.type_name == "list":
        _bound(len(value), bounds, f"the length of {where}")
        for part in value:
            check(shape.member, part, f"{where}[]")
        return
    if shape.type_name == "string":
        # AWS adds instance types faster than the model does, and people type what there is not: EC2 says so itself.
        if getattr(shape, "enum", None) and value not in shape.enum and shape.name != "InstanceType":
            raise InvalidRequestError(f"{where} is {value!r}, not one of {shape.enum}")
        if "pattern" in bounds and not re.search(bounds["pattern"], value):
            raise InvalidRequestError(f"{where} is {value!r}, not {bounds['pattern']}")
        _bound(len(value), bounds, f"the length of {where}")
    elif shape.type_name in ("integer", "long", "float", "double"):
        _bound(value, bounds, where)


def _bound(size: float, bounds: Mapping[str, Any], what: str) -> None:
    if size < bounds.get("min", size) or size > bounds.get("max", size):
        raise InvalidRequestError(f"{what} is {size}, not {bounds.get('min')}…{bounds.get('max')}")


def _read(shape: Any, node: Any, ec2: bool) -> Any:
    kind = shape.type_name
    if kind == "structure":
        found = {}
        for name, member in shape.members.items():
            wire = _request_name(name, member, ec2)
            if wire in node:
                found[name] = _read(member, node[wire], ec2)
        unknown = set(node) - {_request_name(n, m, ec2) for n, m in shape.members.items()}
        if unknown:
            raise InvalidRequestError(f"{shape.name} has no {sorted(unknown)}")
        return found
    if kind == "list":
        if not isinstance(node, dict):
            return []  # an empty list
        return [_read(shape.member, node[key], ec2) for key in sorted(node, key=int)]
    if kind == "boolean":
        return node == "true"
    if kind in ("integer", "long"):
        return int(node)
    if kind in ("float", "double"):
        return float(node)
    if kind == "blob":
        return base64.b64decode(node)
    return node


def _request_name(name: str, member: Any, ec2: bool) -> str:
    if ec2 and "queryName" in member.serialization:
        return str(member.serialization["queryName"])
    wire = str(member.serialization.get("name", name))
    return wire[0].upper() + wire[1:] if ec2 else wire


class _Raw(BytesIO):
    def stream(self, **_: Any) -> Any:
        """Give all at once, as urllib3's answer gives its parts."""
        yield self.read()


def answer(operation: Any, values: Mapping[str, Any]) -> AWSResponse:
    """Write an answer."""
    protocol = operation.service_model.resolved_protocol
    if protocol == "json":
        plain = json.dumps(values, default=lambda v: v.timestamp() if isinstance(v, datetime) else str(v))
        return _response(200, plain.encode(), "application/x-amz-json-1.1")
    inner = _write(operation.output_shape, values, operation.name) if operation.output_shape else ""
    if protocol == "query":
        inner = f"<{operation.name}Result>{inner}</{operation.name}Result>"
    if protocol == "rest-xml":
        return _response(200, f"<{operation.name}>{inner}</{operation.name}>".encode(), "text/xml")
    text = f"<{operation.name}Response><requestId>fake</requestId>{inner}</{operation.name}Response>"
    return _response(200, text.encode(), "text/xml")


def refusal(operation: Any, code: str, message: str, status: int) -> AWSResponse:
    """Write an error as the service writes it."""
    protocol = operation.service_model.resolved_protocol
    if protocol == "json":
        return _response(status, json.dumps({"__type": code, "message": message}).encode(), "application/json")
    error = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    if protocol == "rest-xml":
        text = error
    elif protocol == "query":
        text = f"<ErrorResponse>{error}<RequestId>fake</RequestId></ErrorResponse>"
    else:
        text = f"<Response><Errors>{error}</Errors><RequestID>fake</RequestID></Response>"
    return _response(status, text.encode(), "text/xml")


def _response(status: int, body: bytes, kind: str) -> AWSResponse:
    headers = {"content-type": kind, "content-length": str(len(body))}
    return AWSResponse("https://fake/", status, headers, _Raw(body))


def _write(shape: Any, value: Any, where: str) -> str:
    kind = shape.type_name
    if kind == "structure":
        parts = []
        for name, part in value.items():
            if part is None:
                continue
            if name not in shape.members:
                raise AssertionError(f"the fake answers {where}.{name}, which AWS does not")
            member = shape.members[name]
            wire = member.serialization.get("name", name)
            if member.serialization.get("flattened"):
                parts += [f"<{wire}>{_write(member.member, each, f'{where}.{name}')}</{wire}>" for each in part]
                continue
            parts.append(f"<{wire}>{_write(member, part, f'{where}.{name}')}</{wire}>")
        return "".join(parts)
    if kind == "list":
        wire = shape.member.serialization.get("name", "member")
        return "".join(f"<{wire}>{_write(shape.member, part, where)}</{wire}>" for part in value)
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "timestamp":
        return str(value.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
    return escape(str(value))
