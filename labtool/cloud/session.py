"""One session of botocore per command, and every client made from it the same way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from labtool.cloud.parallel import Pace
from labtool.errors import CloudError

DENIED = {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}
CREDENTIALS = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "RequestExpired",
}


ATTEMPTS = 8

ANSWERED_IN = {"pricing": "us-east-1"}
"""Services that answer for all regions in one."""


@dataclass(frozen=True)
class Target:
    """Which cloud to talk to, and how SSH comes to its hosts."""

    cloud: str  # names the folder of what this user keeps about its labs: aws, local-labtool
    region: str
    kind: Literal["aws", "local"] = "aws"
    endpoint_url: str | None = None
    hosts_endpoint_url: str | None = None  # where the hosts reach the same endpoint, if it is another address
    access_key: str | None = None
    secret_key: str | None = None
    default_image: str = "debian-12"
    caller_cidr: str | None = None  # from where SSH comes; None: ask which address AWS sees
    proxy_jump: str | None = None  # the host that SSH goes through, as ssh's -J takes it; None: straight

    @property
    def billed(self) -> bool:
        """True where hosts cost money."""
        return self.kind == "aws"


@dataclass
class Session:
    """A session of botocore and its clients, which are boto3's."""

    target: Target
    _clients: dict[tuple[str, int], Any] = field(default_factory=dict)
    _core: Any = None
    _paces: dict[str, Pace] = field(default_factory=dict)

    def client(self, service: str, attempts: int = ATTEMPTS) -> Any:
        """Return the client of `service`, which tries a call `attempts` times; `CloudError` without credentials."""
        if (service, attempts) not in self._clients:
            self._clients[service, attempts] = self._make(service, attempts)
        return self._clients[service, attempts]

    @property
    def ec2(self) -> Any:
        """EC2's client."""
        return self.client("ec2")

    def pace(self, action: str, per_s: float, burst: float) -> Pace:
        """Return what keeps the calls of `action` below the rate at which EC2 refuses them."""
        return self._paces.setdefault(action, Pace(per_s, burst))

    def _make(self, service: str, attempts: int) -> Any:
        import botocore.session
        from botocore.config import Config

        from labtool.cloud import answers, model

        if self._core is None:
            with told_clearly("reading the AWS settings"):
                core = botocore.session.get_session()
                core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=answers.timestamp)
                model.quicken(core.get_component("data_loader"))
                model.shorten(core.get_component("data_loader"))
                core.set_config_variable("region", self.target.region)
                if self.target.access_key and self.target.secret_key:
                    core.set_credentials(self.target.access_key, self.target.secret_key)
                self._core = core
            if core.get_credentials() is None:
                raise CloudError(
                    "there are no AWS credentials",
                    "run `aws configure`, set AWS_PROFILE, or leave out --cloud aws to work on this machine",
                )
        make = self._core.create_client
        if service == "s3":  # boto3's has the transfers of files; what they need takes a tenth of a second to load
            import boto3

            make = boto3.Session(botocore_session=self._core).client
        client = make(
            service,
            region_name=ANSWERED_IN.get(service),
            endpoint_url=self.target.endpoint_url,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": attempts},
                max_pool_connections=32,
                connect_timeout=10,
                user_agent_extra="labtool",
                # Presigned URLs of S3 still are of version 2 in some regions.
                signature_version="s3v4" if service == "s3" else None,
                # An endpoint of this machine is never behind a proxy.
                proxies={} if self.target.endpoint_url else None,
            ),
        )
        if service == "ec2":
            answers.quicken(client)
        return client


def error_code(error: Exception) -> str:
    """Return the API's error code of a botocore ClientError, '' for another exception."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


@contextmanager
def told_clearly(doing: str) -> Iterator[None]:
    """Turn botocore's exceptions into `CloudError`s that say what was being done and the way out."""
    from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

    try:
        yield
    except EndpointConnectionError as error:
        raise CloudError(
            f"{doing}: no answer from {error.kwargs.get('endpoint_url', 'the endpoint')}",
            "`labtool cloud status` tells whether the local cloud runs; for AWS check the network",
        ) from error
    except ClientError as error:
        code = error_code(error)
        message = error.response.get("Error", {}).get("Message", str(error))
        hint = None
        if code in DENIED:
            hint = "`labtool doctor --cloud aws` tells what is missing; docs/aws-policy.json has what is needed"
        elif code in CREDENTIALS:
            hint = "renew the credentials (`aws sso login` or `aws configure`) and run the command again"
        raise CloudError(f"{doing}: {code}: {message}", hint) from error
    except BotoCoreError as error:
        raise CloudError(f"{doing}: {error}") from error
