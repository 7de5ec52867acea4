"""An API server in this process, as clients see the local cloud, but with no engine behind it."""

from __future__ import annotations

import functools
import os
import threading

import pytest

os.environ.update({"MOTO_EC2_LOAD_DEFAULT_AMIS": "false", "MOTO_DISABLE_GLOBAL_CORS": "true"})

from labtool.config import LocalSettings
from labtool.localcloud.layout import Layout


@pytest.fixture
def settings(tmp_path):
    return LocalSettings(name="test", state=tmp_path / "state", subnet="198.19.240.0/24", port=4699)


@pytest.fixture
def layout(settings):
    made = Layout(settings)
    made.folder.mkdir(parents=True)
    return made


@pytest.fixture
def make_api(layout):
    """Return a function that makes the API anew from what is on disk, as a restarted process does."""
    from moto.backends import get_backend

    from labtool.localcloud.api import Api
    from labtool.localcloud.cloudwatch.api import CloudWatch
    from labtool.localcloud.cloudwatch.store import Store
    from labtool.localcloud.ec2_backend import Template

    parameter = "/aws/service/debian/release/12/latest/amd64"
    made = []

    def forget():
        for api in made:
            api.snapshots.close()
        for service in ("ec2", "iam", "ssm", "sts", "sqs", "s3", "dynamodb", "cloudwatch"):
            get_backend(service).clear()
        get_backend("s3").bucket_accounts.clear()

    def make():
        forget()
        template = Template(subnet="198.19.240.0/24", image_name="debian-12", login="admin")
        made.append(Api(layout, template, CloudWatch(Store(layout.metrics)), parameter))
        return made[-1]

    yield make
    forget()  # tests of other folders have moto's own backends in this process


@functools.cache
def _session():
    """One for all tests: it reads the services' models, and EC2's is 2 MB."""
    import boto3

    return boto3.session.Session()


class Served:
    """A port of loopback, where one WSGI application after the other answers, and clients of it."""

    def __init__(self):
        from werkzeug.serving import make_server

        self.application = None
        self.server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        self._clients = {}

    def _answer(self, environ, start_response):
        return self.application(environ, start_response)  # which a test may replace

    def client(self, service, region="us-east-1", **config):
        key = (service, region, *sorted(config.items()))
        if key not in self._clients:
            self._clients[key] = self._make(service, region, config)
        return self._clients[key]

    def _make(self, service, region, config):
        from botocore.config import Config

        return _session().client(
            service,
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id="x",
            aws_secret_access_key="y",
            config=Config(retries={"total_max_attempts": 1}, **config),
        )


@pytest.fixture(scope="session")
def _ports():
    """The ports of all tests: to make EC2's client takes longer than most tests."""
    made = []
    yield made
    for served in made:
        served.server.shutdown()
        served.server.server_close()


@pytest.fixture
def serve(_ports):
    free = iter(list(_ports))

    def make(application):
        served = next(free, None)
        if served is None:
            served = Served()
            _ports.append(served)
        served.application = application
        return served

    yield make
    for served in _ports:
        served.application = None
