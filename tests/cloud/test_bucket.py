"""The lab's bucket, against moto's S3: made closed, filled once, emptied and removed, whatever was cut short."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.client import BaseClient
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from moto.server import ThreadedMotoServer

from labtool.cloud import bucket, publish, tags
from labtool.cloud.journal import Journal
from labtool.cloud.session import Session, Target
from labtool.errors import CloudError

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[2] / "docs" / "aws.md"


@pytest.fixture
def cloud():
    with mock_aws():
        yield Session(Target("aws", "eu-central-1", access_key="test", secret_key="test"))


@pytest.fixture(scope="module")
def server():
    made = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    made.start()
    yield made.get_host_and_port()
    made.stop()


@pytest.fixture
def plain(server):
    """The same by HTTP on this machine: moto holds a bucket's policy against everybody, with TLS or without."""
    host, port = server
    url = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
    return Session(Target("aws", "eu-central-1", "aws", url, access_key="test", secret_key="test"))


@pytest.fixture
def archive(tmp_path):
    file = tmp_path / "a.tar"
    file.write_bytes(os.urandom(3 * (5 << 20) + 17))
    return file


def sha512(path):
    return hashlib.sha512(path.read_bytes()).hexdigest()


@pytest.fixture
def asked(monkeypatch):
    """The actions that clients ask for, each where it was first asked for; a call empties it."""
    names = []
    call = BaseClient._make_api_call

    def noted(self, name, given):
        names.append(name)
        return call(self, name, given)

    def since():
        found = list(dict.fromkeys(names))
        names.clear()
        return found

    monkeypatch.setattr(BaseClient, "_make_api_call", noted)
    return since


def documented(begins, ends):
    """Return the actions that docs/aws.md names between two phrases, in their order."""
    text = DOCS.read_text().split(begins, 1)[1].split(ends, 1)[0]
    clients = (boto3.client(service) for service in ("s3", "sts", "ec2"))
    known = {name for client in clients for name in client.meta.method_to_api_mapping.values()}
    return [word for word in re.findall(r"\w+", text) if word in known]


def test_what_is_asked_of_s3_is_what_the_documents_say(cloud, asked, archive, tmp_path, monkeypatch):
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}
    # Moto holds the real one against everybody.
    monkeypatch.setattr(bucket, "policy", lambda home: {"Version": "2012-10-17", "Statement": [everybody]})
    of_lab = [{"ResourceType": "instance", "Tags": tags.to_list({tags.LAB: "lab"})}]
    cloud.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=of_lab)
    asked()
    said = documented("the role `artifact`):", "The hosts have a presigned URL")
    archive.write_bytes(b"x" * (bucket.PART + 1))
    publish.publish(cloud, "lab", archive, sha512(archive))
    assert asked() == [name for name in said if name != "PutObject"]
    archive.write_bytes(b"x")
    publish.publish(cloud, "lab", archive, sha512(archive))
    assert asked()[-2:] == ["HeadObject", "PutObject"]
    home = bucket.of_lab(cloud, "lab")
    cloud.client("s3").create_multipart_upload(Bucket=home.name, Key="cut short")
    asked()
    assert bucket.remove(cloud, home)
    assert asked() == documented("If the lab has a bucket:", "until it is not there")


def tags_of(session, home):
    return bucket._tags(session.client("s3"), home)


def calls(session, name):
    """Note the calls of one S3 action."""
    seen = []
    session.client("s3").meta.events.register(f"before-call.s3.{name}", lambda **_: seen.append(name))
    return seen


def test_it_is_closed_encrypted_short_lived_and_the_labs(cloud):
    home = bucket.of_lab(cloud, "paper")
    bucket.ensure(cloud, "paper", home)
    s3 = cloud.client("s3")
    assert home.name.startswith("labtool-123456789012-eu-central-1-") and len(home.name) <= 63
    closed = s3.get_public_access_block(Bucket=home.name)["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True} and len(closed) == 4
    assert "aws:SecureTransport" in s3.get_bucket_policy(Bucket=home.name)["Policy"]
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=home.name)["Rules"]
    assert (rule["Expiration"]["Days"], rule["Status"]) == (bucket.KEPT_DAYS, "Enabled")
    assert s3.get_bucket_encryption(Bucket=home.name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert s3.get_bucket_location(Bucket=home.name)["LocationConstraint"] == "eu-central-1"
    assert tags_of(cloud, home) == {"labtool:lab": "paper"}


@pytest.mark.parametrize("step", ["PutPublicAccessBlock", "PutBucketPolicy", "PutBucketTagging"])
def test_one_that_was_not_finished_is_finished(cloud, step):
    home = bucket.of_lab(cloud, "paper")

    def dies(**_):
        raise KeyboardInterrupt

    events = cloud.client("s3").meta.events
    events.register(f"before-call.s3.{step}", dies)
    with pytest.raises(KeyboardInterrupt):
        bucket.ensure(cloud, "paper", home)
    events.unregister(f"before-call.s3.{step}", dies)
    assert tags_of(cloud, home) == {}
    bucket.ensure(cloud, "paper", home)
    assert tags_of(cloud, home) == {"labtool:lab": "paper"}
    assert cloud.client("s3").get_bucket_policy(Bucket=home.name)["Policy"]
    made = calls(cloud, "CreateBucket")
    bucket.ensure(cloud, "paper", home)
    assert not made


def test_an_archive_goes_up_once_and_comes_down_by_the_url(plain, archive, monkeypatch):
    monkeypatch.setattr(bucket, "PART", 5 << 20)
    parts, wholes = calls(plain, "UploadPart"), calls(plain, "PutObject")
    link = publish.publish(plain, "paper", archive, sha512(archive))
    assert (len(parts), len(wholes)) == (4, 0)
    assert publish.publish(plain, "paper", archive, sha512(archive)) != ""
    assert len(parts) == 4
    asked = parse_qs(urlsplit(link).query)
    assert asked["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"] and asked["X-Amz-Expires"] == [str(bucket.URL_S)]
    home = bucket.of_lab(plain, "paper")
    assert home.name in link
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == archive.read_bytes()


def test_what_lies_under_the_key_and_is_another_archive_is_replaced_or_refused(plain, tmp_path, monkeypatch):
    small = tmp_path / "b.tar"
    small.write_bytes(b"archive")
    home = bucket.of_lab(plain, "paper")
    bucket.ensure(plain, "paper", home)
    s3 = plain.client("s3")
    s3.put_object(Bucket=home.name, Key=sha512(small), Body=b"another", ChecksumAlgorithm="SHA256")
    bucket.put(plain, home, small, sha512(small))
    assert s3.get_object(Bucket=home.name, Key=sha512(small))["Body"].read() == b"archive"
    monkeypatch.setattr(bucket, "composite_sha256", lambda _archive, _part: "what it was before the uplink")
    with pytest.raises(CloudError, match=r"b\.tar was altered on its way"):
        bucket.put(plain, home, small, sha512(small))


def test_the_hosts_reach_the_same_endpoint_at_another_address():
    target = Target("l", "us-east-1", "local", "http://127.0.0.1:1", "http://198.18.0.1:1", "labtool", "labtool")
    link = bucket.url(Session(target), bucket.Bucket("b", "1"), "k")
    assert link.startswith("http://198.18.0.1:1/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&")


def test_it_goes_with_all_that_it_holds_and_again(plain, archive):
    publish.publish(plain, "paper", archive, sha512(archive))
    home = bucket.of_lab(plain, "paper")
    s3 = plain.client("s3")
    s3.create_multipart_upload(Bucket=home.name, Key="cut short")
    assert bucket.remove(plain, home)
    assert s3.list_buckets()["Buckets"] == []
    assert not bucket.remove(plain, home)


def test_down_looks_for_what_was_about_to_be_made(cloud, archive, monkeypatch):
    from labtool.cloud import keys

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bucket, "ensure", dies)
    with pytest.raises(KeyboardInterrupt):
        publish.publish(cloud, "paper", archive, sha512(archive))
    assert Journal(keys.lab_folder(cloud, "paper")).buckets == {bucket.of_lab(cloud, "paper").name}


def test_down_removes_it_and_looks_again(session, monkeypatch):
    from labtool.cloud import end, keys
    from labtool.progress import Silent

    there = [True, True, False]
    monkeypatch.setattr(
        bucket, "remove", lambda _session, home: there.pop(0) if home.name.startswith("labtool-") else 0
    )
    Journal(keys.lab_folder(session, "paper")).uses(bucket=bucket.of_lab(session, "paper").name)
    end.down(session, "paper", Silent())
    assert there == []
    assert Journal(keys.lab_folder(session, "paper")).buckets == set()


def test_another_machines_down_knows_it_by_the_hosts(session, monkeypatch, tmp_path):
    from datetime import timedelta

    from labtool.cloud import end, keys, launch
    from labtool.progress import Silent
    from labtool.topology import GroupSpec

    launch.up(
        session, "paper", [GroupSpec("web", 2, "t3.micro")], image=None, ttl=timedelta(hours=4), progress=Silent()
    )
    publish._tag_hosts(session, "paper", bucket.of_lab(session, "paper"))
    monkeypatch.setenv("LABTOOL_HOME", str(tmp_path / "another machine"))
    assert Journal(keys.lab_folder(session, "paper")).buckets == set()
    removed = []
    monkeypatch.setattr(bucket, "remove", lambda _session, home: removed.append(home) or len(removed) < 2)
    assert end.down(session, "paper", Silent()) == 2
    assert set(removed) == {bucket.of_lab(session, "paper")}


@given(st.binary(max_size=100), st.integers(1, 40))
def test_a_composite_checksum_depends_on_every_byte(tmp_path_factory, content, part):
    file = tmp_path_factory.mktemp("c") / "a"
    file.write_bytes(content)
    found = bucket.composite_sha256(file, part)
    assert ("-" in found) == (len(content) >= part)
    if content:
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        assert bucket.composite_sha256(file, part) != found
