from __future__ import annotations

import threading
import time

import pytest

from labtool.files import write_bytes
from labtool.localcloud import snapshots
from labtool.localcloud.snapshots import _Service


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(snapshots, "_DELAY_S", 0.05)


def wait_until(true):
    """Return when the deferred writer has done what is awaited."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_service_comes_back(make_api, serve, layout):
    served = serve(make_api())
    s3, sqs, dynamodb = (served.client(name) for name in ("s3", "sqs", "dynamodb"))
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="large", Body=b"z" * 200_000, Metadata={"a_b": "c"})
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="hello")
    dynamodb.create_table(
        TableName="t",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.put_item(TableName="t", Item={"k": {"S": "1"}})
    served.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")
    served.client("cloudwatch").put_dashboard(DashboardName="d", DashboardBody='{"widgets": []}')
    deferred = {layout.services / f"{name}.pickle" for name in snapshots.DEFERRED}
    wait_until(lambda: all(file.exists() for file in deferred))
    served.application = make_api()
    assert s3.get_object(Bucket="bucket", Key="large")["Body"].read() == b"z" * 200_000
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "hello"
    assert dynamodb.get_item(TableName="t", Key={"k": {"S": "1"}})["Item"] == {"k": {"S": "1"}}
    assert [r["RoleName"] for r in served.client("iam").list_roles()["Roles"]] == ["r"]
    assert [d["DashboardName"] for d in served.client("cloudwatch").list_dashboards()["DashboardEntries"]] == ["d"]


def test_large_values_nobody_uses_go(make_api, serve, layout):
    served = serve(make_api())
    s3 = served.client("s3")
    s3.create_bucket(Bucket="bucket")
    for amount, content in enumerate((b"1", b"2"), start=1):
        s3.put_object(Bucket="bucket", Key="k", Body=content * 100_000)
        wait_until(lambda amount=amount: len(list((layout.services / "blobs").glob("*"))) == amount)
    served.application = make_api()
    assert len(list((layout.services / "blobs").iterdir())) == 1
    assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == b"2" * 100_000


def test_an_unreadable_state_is_put_aside(make_api, layout):
    layout.services.mkdir()
    (layout.services / "ec2.pickle").write_bytes(b"not a pickle")
    api = make_api()
    assert api.ec2.all_instances() == []
    assert (layout.services / "ec2.unreadable").exists()


def test_requests_that_arrive_during_a_save_share_the_next(tmp_path):
    begun, go = threading.Event(), threading.Event()
    state, dumps = [0], []

    def dump():
        dumps.append(state[0])
        begun.set()
        go.wait(5)
        return str(dumps[-1]).encode()

    service = _Service(dump, tmp_path / "s")
    first = threading.Thread(target=service.save, args=(None,))
    first.start()
    assert begun.wait(5)
    state[0] = 1  # after the first save has read the state
    others = [threading.Thread(target=service.save, args=(None,)) for _ in range(20)]
    for thread in others:
        thread.start()
    deadline = time.monotonic() + 5
    while service._asked < 21 and time.monotonic() < deadline:
        time.sleep(0.005)
    go.set()
    for thread in [first, *others]:
        thread.join(5)
    assert dumps == [0, 1]
    assert (tmp_path / "s").read_bytes() == b"1"


def test_a_failed_write_leaves_the_old_state(tmp_path, monkeypatch):
    target = tmp_path / "state"
    write_bytes(target, b"old", 0o600)
    monkeypatch.setattr("os.open", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_bytes(target, b"new", 0o600)
    assert target.read_bytes() == b"old"
