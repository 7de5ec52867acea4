"""EC2's description, shortened, says of what is left of it just what botocore's says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import Loader
from botocore.model import ServiceModel

from labtool.cloud import model
from labtool.cloud.session import Session, Target

POLICY = Path(__file__).parents[2] / "docs" / "aws-policy.json"


@pytest.fixture(scope="module")
def whole():
    return Loader().load_service_model("ec2", "service-2")


def members(shape, seen=()):
    """Return a shape as nested types, a shape within itself once."""
    if shape is None or shape.name in seen:
        return None
    seen = (*seen, shape.name)
    if shape.type_name == "structure":
        return {name: (each.serialization, members(each, seen)) for name, each in shape.members.items()}
    if shape.type_name == "list":
        return [shape.member.serialization, members(shape.member, seen)]
    return shape.type_name, shape.metadata


def test_what_is_left_is_unchanged(whole):
    short = ServiceModel(model.only(whole, model.OPERATIONS), "ec2")
    told = ServiceModel(whole, "ec2")
    assert set(short.operation_names) == set(model.OPERATIONS)
    for name in model.OPERATIONS:
        left, right = short.operation_model(name), told.operation_model(name)
        assert members(left.input_shape) == members(right.input_shape)
        assert members(left.output_shape) == members(right.output_shape)
        assert left.idempotent_members == right.idempotent_members
    assert {**short.metadata} == {**told.metadata}
    assert len(json.dumps(model.only(whole, model.OPERATIONS))) < len(json.dumps(whole)) / 20


def test_a_member_that_is_called_documentation_is_kept():
    shapes = {
        "In": {
            "type": "structure",
            "members": {"documentation": {"shape": "Text", "documentation": "<p>"}},
            "documentation": "<p>",
        },
        "Text": {"type": "string"},
        "Other": {"type": "string"},
    }
    given = {"operations": {"Ask": {"input": {"shape": "In"}}, "Else": {}}, "shapes": shapes, "metadata": {}}
    assert model.only(given, ["Ask"]) == {
        "operations": {"Ask": {"input": {"shape": "In"}}},
        "shapes": {
            "In": {"type": "structure", "members": {"documentation": {"shape": "Text"}}},
            "Text": shapes["Text"],
        },
        "metadata": {},
    }


def test_it_has_what_the_policy_allows():
    allowed = json.loads(POLICY.read_text())["Statement"]
    actions = {
        action
        for each in allowed
        for action in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
    }
    assert {f"ec2:{name}" for name in model.OPERATIONS} == {a for a in actions if a.startswith("ec2:")}


def made():
    return Session(Target("aws", "us-east-1", access_key="test", secret_key="test")).ec2


def test_it_is_made_once_and_read_by_the_next(whole, monkeypatch):
    first = made()
    assert not hasattr(first, "stop_instances")
    monkeypatch.setattr(model, "only", lambda *_: pytest.fail("made again"))
    assert made().meta.method_to_api_mapping == first.meta.method_to_api_mapping


@pytest.mark.parametrize("service", ["ec2", "s3", "sso", "pricing"])
def test_services_are_described_as_botocore_describes_them(service):
    quick, plain = Loader(), Loader()
    model.quicken(quick)
    for kind in ("service-2", "paginators-1", "waiters-2", "endpoint-rule-set-1"):
        try:
            expected = plain.load_service_model(service, kind)
        except DataNotFoundError:
            with pytest.raises(DataNotFoundError):
                quick.load_service_model(service, kind)
        else:
            assert quick.load_service_model(service, kind) == expected
    assert quick.load_data_with_path("endpoints") == plain.load_data_with_path("endpoints")


def test_a_service_that_there_is_not_is_told():
    loader = Loader()
    model.quicken(loader)
    with pytest.raises(UnknownServiceError, match="ec3"):
        loader.load_service_model("ec3", "service-2")


def test_without_a_cache_it_is_botocores(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "_make", full)
    assert hasattr(made(), "stop_instances")
