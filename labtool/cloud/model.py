"""What botocore describes services by, found and read quickly; of EC2, without what labtool never asks for.

EC2 has seven hundred operations, and each process would read the description of all: a tenth of a second before the
first request. What is left of it is kept in this user's cache, made anew from botocore's own for each of its versions.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from labtool import config

OPERATIONS = (
    "AuthorizeSecurityGroupIngress", "CreatePlacementGroup", "CreateSecurityGroup", "CreateTags", "DeleteKeyPair",
    "DeletePlacementGroup", "DeleteSecurityGroup", "DeleteVolume", "DescribeImages", "DescribeInstanceTypeOfferings",
    "DescribeInstanceTypes", "DescribeInstances", "DescribeKeyPairs", "DescribePlacementGroups",
    "DescribeSecurityGroups", "DescribeSpotInstanceRequests", "DescribeSubnets", "DescribeVolumes", "DescribeVpcs",
    "GetConsoleOutput", "ImportKeyPair", "RevokeSecurityGroupIngress", "RunInstances", "StartInstances",
    "TerminateInstances",
)  # fmt: skip
"""All that labtool asks of EC2: what docs/aws-policy.json allows."""


class Files:
    """Reads JSON as botocore's `JSONFileLoader` does, in a fifth of the time: all endpoints are a megabyte."""

    def exists(self, file_path: str) -> bool:
        """Tell whether there is a file of this name, packed or not."""
        return any(Path(file_path + end).is_file() for end in (".json", ".json.gz"))

    def load_file(self, file_path: str) -> Any:
        """Return what the file holds, None if there is none."""
        with suppress(FileNotFoundError):
            return msgspec.json.decode(Path(f"{file_path}.json").read_bytes())
        with suppress(FileNotFoundError), gzip.open(f"{file_path}.json.gz") as file:
            return msgspec.json.decode(file.read())
        return None


def quicken(loader: Any) -> None:
    """Have botocore's `loader` of service descriptions lose no time."""
    loader.file_loader = Files()
    # It would look at each version of each of four hundred, to tell whether there is the one that is named.
    names = {folder.name for path in loader.search_paths for folder in Path(path).glob("*")}
    loader.list_available_services = lambda _type: names


def shorten(loader: Any) -> None:
    """Have botocore's `loader` of service descriptions find EC2's short one; nothing where it cannot be kept."""
    import botocore

    told = hashlib.sha256(" ".join(OPERATIONS).encode()).hexdigest()[:8]
    folder = config.cache() / "models" / f"botocore-{botocore.__version__}-{told}"
    try:
        if not folder.is_dir():
            _make(folder)
    except OSError:
        return
    loader.search_paths.insert(0, str(folder))


def _make(folder: Path) -> None:
    from botocore.loaders import Loader

    loader = Loader()  # another: a loader gives again what it has read
    name = f"ec2/{loader.determine_latest_version('ec2', 'service-2')}/service-2"
    short = json.dumps(only(loader.load_data(name), OPERATIONS))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        file = Path(made) / "new" / f"{name}.json"
        file.parent.mkdir(parents=True)
        file.write_text(short, encoding="utf-8")
        (Path(made) / "new").rename(folder)  # an error where another labtool was as quick


def only(model: Mapping[str, Any], operations: Iterable[str]) -> dict[str, Any]:
    """Return a service's `model` with these operations, the shapes that they need, and no documentation."""
    kept = {name: _bare(model["operations"][name]) for name in operations}
    shapes: dict[str, Any] = {}
    open_ = list(_named(kept))
    while open_:
        name = open_.pop()
        if name not in shapes:
            shapes[name] = _bare(model["shapes"][name])
            open_ += _named(shapes[name])
    return {**model, "operations": kept, "shapes": shapes}


def _bare(value: Any) -> Any:
    """Return part of a model without the texts of its documentation; a member of that name is no text."""
    if isinstance(value, Mapping):
        return {key: _bare(v) for key, v in value.items() if key != "documentation" or not isinstance(v, str)}
    return [_bare(each) for each in value] if isinstance(value, list) else value


def _named(value: Any) -> Iterable[str]:
    """Yield the shapes that part of a model refers to."""
    if isinstance(value, Mapping):
        if isinstance(value.get("shape"), str):
            yield value["shape"]
        for each in value.values():
            yield from _named(each)
    elif isinstance(value, list):
        for each in value:
            yield from _named(each)
