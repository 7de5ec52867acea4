"""S3 as far as labs' buckets go without what is in them: they are there, bear tags, and can be removed when empty."""

from __future__ import annotations

from typing import Any


class S3:
    """An account's buckets by name, each with its tags and the keys of its objects."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, str]] = {}
        self.objects: dict[str, list[str]] = {}

    def make(self, name: str, tags: dict[str, str], keys: tuple[str, ...] = ()) -> None:
        """Have a bucket that a deploy made."""
        self.buckets[name], self.objects[name] = dict(tags), list(keys)

    def _need(self, asked: dict[str, Any]) -> str:
        from fake.aws import Refused

        if asked["Bucket"] not in self.buckets:
            raise Refused("NoSuchBucket", asked["Bucket"], 404)
        return str(asked["Bucket"])

    def list_buckets(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = sorted(name for name in self.buckets if name.startswith(asked.get("Prefix", "")))
        return {"Buckets": [{"Name": name} for name in found]}

    def get_bucket_tagging(self, asked: dict[str, Any]) -> dict[str, Any]:
        from fake.aws import Refused

        if not (tags := self.buckets[self._need(asked)]):
            raise Refused("NoSuchTagSet", "The TagSet does not exist", 404)
        return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def list_multipart_uploads(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"Bucket": self._need(asked), "IsTruncated": False}

    def list_objects_v2(self, asked: dict[str, Any]) -> dict[str, Any]:
        keys = self.objects[self._need(asked)]
        return {"Contents": [{"Key": key, "Size": 1} for key in keys], "IsTruncated": False, "KeyCount": len(keys)}

    def delete_objects(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.objects[self._need(asked)].clear()  # who asks names all that was listed
        return {}

    def delete_bucket(self, asked: dict[str, Any]) -> dict[str, Any]:
        from fake.aws import Refused

        name = self._need(asked)
        if self.objects[name]:
            raise Refused("BucketNotEmpty", name, 409)
        del self.buckets[name], self.objects[name]
        return {}
