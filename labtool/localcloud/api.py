"""The API: one WSGI application for all services.

The service of a request is in its signature's credential scope. EC2 and CloudWatch are ours (EC2 on moto's
state), SSM answers for the public AMI parameters, everything else is moto as it is.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import uuid
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from moto.backends import get_backend
from moto.core.request import Request
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from labtool.localcloud.cloudwatch.api import CloudWatch
from labtool.localcloud.ec2_api import LabEC2Response
from labtool.localcloud.ec2_backend import ACCOUNT, REGION, LabEC2Backend, Template, ami_id
from labtool.localcloud.layout import Layout
from labtool.localcloud.public_parameters import PublicParametersResponse
from labtool.localcloud.snapshots import Snapshots

log = logging.getLogger(__name__)

STATUS_PATH = "/_labtool/status"
_SCOPE = re.compile(r"Credential=([^/\s]+)/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
_READS = ("Describe", "Get", "List", "Head", "Query", "Scan", "BatchGet", "Receive", "Search", "Filter")
_XML = {"Content-Type": "text/xml"}
_SERVICE_OF_SCOPE = {"monitoring": "cloudwatch"}

StartResponse = Callable[..., Any]
Environ = dict[str, Any]


class Api:
    """The WSGI application, and the state it serves."""

    def __init__(self, layout: Layout, template: Template, cloudwatch: CloudWatch, public_parameter: str) -> None:
        self.lock = threading.RLock()  # EC2's state: requests, reconcile loop and metrics
        self.cloudwatch = cloudwatch
        self.describe: Callable[[], dict[str, Any]] = dict
        self.changed: Callable[[], None] = _nothing  # EC2's state was, by a request that is about to be answered
        self.expired: Callable[[str], bool] = _never  # of an access key
        self.snapshots = Snapshots(layout.services, ACCOUNT)
        self.snapshots.restore_all()
        saved = self.snapshots.restore("ec2").get(REGION)
        self.ec2: LabEC2Backend = saved or LabEC2Backend(template)
        get_backend("ec2")[ACCOUNT][REGION] = self.ec2
        LabEC2Response.console_file = staticmethod(lambda instance_id: layout.instance(instance_id).console)
        PublicParametersResponse.public = {public_parameter: ami_id(template.image_name)}
        self._moto = DomainDispatcherApplication(create_backend_app)

    def save(self) -> None:
        """Save EC2's state (for changes that no request made)."""
        self.snapshots.changed("ec2", self.lock)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        if path == STATUS_PATH:
            body = json.dumps(self.describe()).encode()
            return _answer(start_response, 200, {"Content-Type": "application/json"}, body)
        scope = _scope(environ)
        if scope is None or path.startswith(("/moto-api", "/latest/")):
            # A web page can make a browser post a form here, but not sign it.
            body = b'{"__type":"MissingAuthenticationToken","message":"Request is missing Authentication Token"}'
            return _answer(start_response, 403, {"Content-Type": "application/x-amz-json-1.0"}, body)
        access_key, region, service = scope
        if self.expired(access_key):
            return _expired(start_response, service)
        try:
            if service == "ec2":
                return self._ec2(environ, start_response)
            if service == "monitoring" and self.cloudwatch.serves(environ):
                status, headers, body = self.cloudwatch.answer(environ)
                return _answer(start_response, status, headers, body)
            if service == "ssm":
                with self.lock:
                    request = Request(environ)
                    result = PublicParametersResponse.dispatch(request)
                return self._finish(start_response, "ssm", _action(request, environ), result)
            return self._plain_moto(environ, start_response, service, region)
        except NotImplementedError as error:
            log.info("not implemented: %s", error)
            body = json.dumps({"__type": "UnsupportedOperation", "message": str(error)}).encode()
            return _answer(start_response, 501, {"Content-Type": "application/x-amz-json-1.0"}, body)
        except Exception:
            log.exception("%s %s failed", service, path)
            body = b'{"__type":"InternalError","message":"the local cloud failed; see its log"}'
            return _answer(start_response, 500, {"Content-Type": "application/x-amz-json-1.0"}, body)

    def _ec2(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        action = _action(request, environ)
        try:
            with self.lock:
                result = LabEC2Response.dispatch(request)
        except NotImplementedError:
            message = f"The local cloud has no {action}."
            return _answer(start_response, 400, {"Content-Type": "text/xml"}, _xml_error("Unsupported", message))
        except Exception:
            log.exception("ec2 %s failed", action)
            message = f"The local cloud failed in {action}; its log says why."
            return _answer(start_response, 500, {"Content-Type": "text/xml"}, _xml_error("InternalError", message))
        return self._finish(start_response, "ec2", action, result)

    def _finish(
        self, start_response: StartResponse, service: str, action: str, result: tuple[int, Any, Any]
    ) -> Iterable[bytes]:
        status, headers, body = result
        if status < 400 and not action.startswith(_READS):
            self.snapshots.changed(service, self.lock)
            if service == "ec2":
                self.changed()
        content = body.encode() if isinstance(body, str) else body
        return _answer(start_response, status, dict(headers), content)

    def _plain_moto(
        self, environ: Environ, start_response: StartResponse, service: str, region: str
    ) -> Iterable[bytes]:
        reads = environ["REQUEST_METHOD"] in ("GET", "HEAD")
        if target := environ.get("HTTP_X_AMZ_TARGET", ""):
            reads = target.rpartition(".")[2].startswith(_READS)
        body = self._moto(environ, start_response)
        if not reads:
            self.snapshots.changed(_SERVICE_OF_SCOPE.get(service, service), None)
        return body  # type: ignore[no-any-return]


def _nothing() -> None:
    pass


def _never(_access_key: str) -> bool:
    return False


def _scope(environ: Environ) -> tuple[str, str, str] | None:
    """Return access key, region and service of a signed request, from its header or, presigned, from its query."""
    header = environ.get("HTTP_AUTHORIZATION", "")
    found = _SCOPE.search(header)
    if found is None and "X-Amz-Credential" in environ.get("QUERY_STRING", ""):
        credential = parse_qs(environ["QUERY_STRING"]).get("X-Amz-Credential", [""])[0]
        found = _SCOPE.search(f"Credential={credential}")
    return (found[1], found[2], found[3]) if found else None


def _action(request: Request, environ: Environ) -> str:
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return str(target.rpartition(".")[2])
    return str(request.form.get("Action") or request.args.get("Action") or "")


def _xml_error(code: str, message: str) -> bytes:
    return (
        f"<Response><Errors><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error></Errors>"
        f"<RequestID>{uuid.uuid4()}</RequestID></Response>"
    ).encode()


def _expired(start_response: StartResponse, service: str) -> Iterable[bytes]:
    """Refuse temporary credentials whose time is over, as the service's protocol words it."""
    text = "The security token included in the request is expired"
    if service == "ec2":
        return _answer(start_response, 400, _XML, _xml_error("RequestExpired", "Request has expired."))
    if service == "s3":
        body = f"<Error><Code>ExpiredToken</Code><Message>{text}</Message></Error>"
        return _answer(start_response, 400, _XML, body.encode())
    if service in ("iam", "sts"):
        body = f"<ErrorResponse><Error><Code>ExpiredToken</Code><Message>{text}</Message></Error></ErrorResponse>"
        return _answer(start_response, 403, _XML, body.encode())
    body = json.dumps({"__type": "ExpiredTokenException", "message": text})
    return _answer(start_response, 400, {"Content-Type": "application/x-amz-json-1.0"}, body.encode())


def _answer(start_response: StartResponse, status: int, headers: dict[str, Any], body: bytes) -> Iterable[bytes]:
    kept = {k: str(v) for k, v in headers.items() if k.lower() not in ("status", "content-length", "date")}
    kept["Content-Length"] = str(len(body))
    start_response(f"{status} {'OK' if status < 400 else 'Error'}", list(kept.items()))
    return [body]
