"""Errors in the protocol that the client speaks, so that whatever fails, it can read why.

The protocols are Smithy's: https://smithy.io/2.0/aws/protocols/index.html
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from labtool.localcloud.cloudwatch import cbor

Protocol = Literal["ec2", "query", "json", "cbor", "rest-json", "rest-xml", "s3"]
Answer = tuple[int, dict[str, str], bytes]

REST_XML = frozenset({"s3", "route53", "cloudfront"})
"""Signing names of the services that answer in XML without saying so in the request."""

_EC2_VERSION = "2016-11-15"
_PROLOG = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(frozen=True)
class Refusal:
    """An error: HTTP status, AWS's code and a sentence."""

    status: int
    code: str
    message: str

    @property
    def fault(self) -> str:
        """Whose fault it is, in AWS's words."""
        return "Sender" if self.status < 500 else "Receiver"


def protocol_of(environ: Mapping[str, Any], service: str | None) -> Protocol:
    """Return the protocol of a request; `service` is its signing name, None where it is not signed."""
    content = environ.get("CONTENT_TYPE") or ""
    asked = parse_qs(environ.get("QUERY_STRING", ""))
    if environ.get("HTTP_SMITHY_PROTOCOL") == "rpc-v2-cbor":
        return "cbor"
    if service == "ec2" or _EC2_VERSION in asked.get("Version", ()):
        return "ec2"
    if service in REST_XML:
        return "s3" if service == "s3" else "rest-xml"
    if environ.get("HTTP_X_AMZ_TARGET") or content.startswith("application/x-amz-json"):
        return "json"
    if "Action" in asked or content.startswith("application/x-www-form-urlencoded"):
        return "query"
    return "rest-json"


def write(refusal: Refusal, protocol: Protocol) -> Answer:
    """Return status, headers and body of `refusal`."""
    request_id = str(uuid.uuid4())
    if protocol in ("json", "cbor", "rest-json"):
        body = {"__type": refusal.code, "message": refusal.message}
        headers = {"Content-Type": "application/x-amz-json-1.0", "x-amzn-RequestId": request_id}
        if protocol == "cbor":
            headers |= {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
            return refusal.status, headers, cbor.dumps(body)
        if protocol == "rest-json":
            headers |= {"Content-Type": "application/json", "x-amzn-ErrorType": refusal.code}
        return refusal.status, headers, json.dumps(body).encode()
    inner = f"<Code>{escape(refusal.code)}</Code><Message>{escape(refusal.message)}</Message>"
    if protocol == "ec2":
        text = f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    elif protocol == "s3":
        text = f"<Error>{inner}<RequestId>{request_id}</RequestId></Error>"
    else:
        error = f"<Error><Type>{refusal.fault}</Type>{inner}</Error>"
        text = f"<ErrorResponse>{error}<RequestId>{request_id}</RequestId></ErrorResponse>"
    headers = {"Content-Type": "text/xml;charset=UTF-8", "x-amzn-RequestId": request_id}
    return refusal.status, headers, (_PROLOG + text).encode()
