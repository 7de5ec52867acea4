"""The API: one WSGI application for all services.

The service of a request is in its signature's credential scope. EC2 and CloudWatch are ours (EC2 on moto's
state), SSM answers for the public AMI parameters, everything else is moto as it is.
"""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from botocore.model import OperationNotFoundError
from moto.backends import get_backend
from moto.core.exceptions import ServiceException
from moto.core.request import Request
from moto.core.responses import BaseResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from labtool.localcloud.cloudwatch.api import CloudWatch
from labtool.localcloud.cloudwatch.protocol import ApiError, operation
from labtool.localcloud.ec2_api import LabEC2Response
from labtool.localcloud.ec2_backend import ACCOUNT, REGION, LabEC2Backend, Template, ami_id
from labtool.localcloud.layout import Layout
from labtool.localcloud.public_parameters import PublicParametersResponse
from labtool.localcloud.refusal import REST_XML, Refusal, protocol_of, write
from labtool.localcloud.snapshots import Snapshots

log = logging.getLogger(__name__)

STATUS_PATH = "/_labtool/status"
_SCOPE = re.compile(r"Credential=([^/\s]+)/\d{8}/[a-z0-9-]+/([a-z0-9-]+)/aws4_request")
_FILTER = re.compile(r"[Ff]ilter.*?'([^']*)'")  # moto: "The filter 'a' for …", "Filter dicts … for 'a' yet."
_READS = ("Describe", "Get", "List", "Head", "Query", "Scan", "BatchGet", "Receive", "Search", "Filter")
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
        self._moto = DomainDispatcherApplication(_backend_app)

    def save(self) -> None:
        """Save EC2's state (for changes that no request made)."""
        self.snapshots.changed("ec2", self.lock)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; whatever fails is an error in the client's protocol."""
        if environ.get("PATH_INFO", "") == STATUS_PATH:
            body = json.dumps(self.describe()).encode()
            return _answer(start_response, 200, {"Content-Type": "application/json"}, body)
        access_key, service = _scope(environ) or ("", None)
        try:
            return self._dispatch(environ, start_response, access_key, service)
        except Exception as error:
            refusal = _refusal(error, service or "", str(environ.get("labtool.action") or ""))
            if refusal.status >= 500 and not isinstance(error, NotImplementedError):
                log.exception("%s %s failed", service, environ.get("PATH_INFO", ""))
            return _refuse(environ, start_response, service, refusal)

    def _dispatch(
        self, environ: Environ, start_response: StartResponse, access_key: str, service: str | None
    ) -> Iterable[bytes]:
        if service is None or environ.get("PATH_INFO", "").startswith(("/moto-api", "/latest/")):
            # A web page can make a browser post a form here, but not sign it.
            raise RefusedError(Refusal(403, "MissingAuthenticationToken", "Request is missing Authentication Token"))
        if self.expired(access_key):
            raise RefusedError(_expired(service))
        if service == "ec2":
            return self._moto_response(environ, start_response, service, LabEC2Response)
        if service == "ssm":
            return self._moto_response(environ, start_response, service, PublicParametersResponse)
        if service == "monitoring" and self.cloudwatch.serves(environ):
            status, headers, body = self.cloudwatch.answer(environ)
            return _answer(start_response, status, headers, body)
        return self._plain_moto(environ, start_response, service)

    def _moto_response(
        self, environ: Environ, start_response: StartResponse, service: str, kind: type[BaseResponse]
    ) -> Iterable[bytes]:
        request = Request(environ)
        action = environ["labtool.action"] = _action(request, environ)
        with self.lock:
            status, headers, body = kind.dispatch(request)
        if status < 400 and not action.startswith(_READS):
            self.snapshots.changed(service, self.lock)
            if service == "ec2":
                self.changed()
        content = body.encode() if isinstance(body, str) else body
        return _answer(start_response, status, dict(headers), content)

    def _plain_moto(self, environ: Environ, start_response: StartResponse, service: str) -> Iterable[bytes]:
        action = environ["labtool.action"] = operation(environ) or _action_of_form(environ, service)
        reads = action.startswith(_READS) if action else environ["REQUEST_METHOD"] in ("GET", "HEAD")
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def begin(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
            begun[:] = [(status, headers)]

        chunks: Iterable[bytes] = self._moto(environ, begin)
        status, headers = begun[0]
        if int(status.split()[0]) >= 400 and environ["REQUEST_METHOD"] != "HEAD":
            body = b"".join(chunks)
            if not body or body.lstrip()[:14].lower() == b"<!doctype html":
                raise UnknownActionError  # moto has no such path, and says so as a web page
            chunks = [body]
        start_response(status, headers)
        if not reads:
            self.snapshots.changed(_SERVICE_OF_SCOPE.get(service, service), None)
        return chunks


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class UnknownActionError(Exception):
    """A request for something that the service does not have, or moto does not."""


class NoServiceError(NotImplementedError):
    """A request for a service that moto does not have."""


def _backend_app(service: Any) -> Any:
    if service is None:
        raise NoServiceError
    return create_backend_app(service)


def _refusal(error: Exception, service: str, action: str) -> Refusal:
    """Return what a client is told of `error`."""
    ours = 400 if service == "ec2" else 501  # a 5xx would leave open whether something was launched
    match error:
        case RefusedError():
            return error.refusal
        case ApiError():
            return Refusal(error.status, error.code, error.message)
        case ServiceException():
            return Refusal(400, str(error.code), str(error.message))
        case NotImplementedError() if service == "ec2" and (found := _FILTER.search(str(error))):
            told = f"The filter '{found[1]}' is invalid, or one that the local cloud does not have"
            return Refusal(400, "InvalidParameterValue", told)
        case NoServiceError():
            return Refusal(ours, "UnsupportedOperation", f"The local cloud has no service {service}.")
        case NotImplementedError():
            return Refusal(ours, "UnsupportedOperation", f"The local cloud has no {action} of {service}.")
        case OperationNotFoundError() | UnknownActionError() if action:
            code = "InvalidAction" if service == "ec2" else "UnknownOperationException"
            return Refusal(400, code, f"The action {action} is not valid for this web service.")
        case UnknownActionError():
            return Refusal(404, "UnknownOperationException", f"The local cloud's {service} has nothing at this path.")
        case _:
            what = action or service or "this request"
            return Refusal(500, "InternalError", f"The local cloud failed in {what}; its log says why.")


def _refuse(environ: Environ, start_response: StartResponse, service: str | None, refusal: Refusal) -> Iterable[bytes]:
    status, headers, body = write(refusal, protocol_of(environ, service))
    return _answer(start_response, status, headers, b"" if environ["REQUEST_METHOD"] == "HEAD" else body)


def _nothing() -> None:
    pass


def _never(_access_key: str) -> bool:
    return False


def _expired(service: str) -> Refusal:
    """Return what is said of temporary credentials whose time is over, in the service's words."""
    if service == "ec2":
        return Refusal(400, "RequestExpired", "Request has expired.")
    text = "The security token included in the request is expired"
    if service in ("iam", "sts", "s3"):
        return Refusal(400 if service == "s3" else 403, "ExpiredToken", text)
    return Refusal(400, "ExpiredTokenException", text)


def _scope(environ: Environ) -> tuple[str, str] | None:
    """Return access key and service of a signed request, from its header or, presigned, from its query."""
    header = environ.get("HTTP_AUTHORIZATION", "")
    found = _SCOPE.search(header)
    if found is None and "X-Amz-Credential" in environ.get("QUERY_STRING", ""):
        credential = parse_qs(environ["QUERY_STRING"]).get("X-Amz-Credential", [""])[0]
        found = _SCOPE.search(f"Credential={credential}")
    return (found[1], found[2]) if found else None


def _action_of_form(environ: Environ, service: str) -> str:
    """Return the action of a Query request; its body is read for it and put back."""
    if service in REST_XML or not environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return str(parse_qs(environ.get("QUERY_STRING", "")).get("Action", [""])[0])
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    found = re.search(rb"(?:^|&)Action=(\w+)", body)
    return found[1].decode() if found else ""


def _action(request: Request, environ: Environ) -> str:
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return str(target.rpartition(".")[2])
    return str(request.form.get("Action") or request.args.get("Action") or "")


def _answer(start_response: StartResponse, status: int, headers: dict[str, Any], body: bytes) -> Iterable[bytes]:
    kept = {k: str(v) for k, v in headers.items() if k.lower() not in ("status", "content-length", "date")}
    kept["Content-Length"] = str(len(body))
    start_response(f"{status} {'OK' if status < 400 else 'Error'}", list(kept.items()))
    return [body]
