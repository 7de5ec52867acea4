"""The lab's bucket: archives go to it once, and from it to every host, rather than once a host through this uplink.

Its name follows from account, region and lab. It is private, wants TLS, forgets what it holds after some days, and is
tagged last: a bucket with the lab's tag is one that was finished.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labtool.cloud import tags
from labtool.cloud.session import Session, error_code, told_clearly
from labtool.errors import CloudError

KEPT_DAYS = 3
URL_S = 3600
"""How long a URL is good for: the hosts fetch at once, or broken off, a little later."""
PART = 16 << 20
_ABSENT = ("NoSuchBucket", "NoSuchKey", "NotFound", "404", "NoSuchTagSet")


@dataclass(frozen=True)
class Bucket:
    """A bucket of this account."""

    name: str
    owner: str  # the account: a bucket of this name may be somebody else's

    @property
    def at(self) -> dict[str, str]:
        """The parameters that name it; a call with them fails where the bucket is another account's."""
        return {"Bucket": self.name, "ExpectedBucketOwner": self.owner}


def of_lab(session: Session, lab: str) -> Bucket:
    """Return the lab's bucket, there or not."""
    owner = _account(session)
    short = hashlib.sha256(lab.encode()).hexdigest()[:8]
    return Bucket(f"{prefix(owner, session.target.region)}{short}", owner)


def of_labs(session: Session) -> dict[str, Bucket]:
    """Return the buckets that labs have in this account and region, by lab."""
    owner, s3 = _account(session), session.client("s3")
    begins = prefix(owner, session.target.region)
    with told_clearly("reading what buckets labs have"):
        pages = s3.get_paginator("list_buckets").paginate(Prefix=begins)
        names = [each["Name"] for page in pages for each in page.get("Buckets", [])]
        found = [Bucket(name, owner) for name in names if name.startswith(begins)]
        return {lab: each for each in found if (lab := _tags(s3, each).get(tags.LAB))}


def _account(session: Session) -> str:
    with told_clearly("asking whose account this is"):
        return str(session.client("sts").get_caller_identity()["Account"])


def prefix(owner: str, region: str) -> str:
    """Return what the names of all labs' buckets in a region begin with."""
    return f"labtool-{owner}-{region}-"


def ensure(session: Session, lab: str, bucket: Bucket) -> None:
    """Make the lab's bucket where it is missing or was not finished."""
    s3 = session.client("s3")
    if _tags(s3, bucket).get(tags.LAB) == lab:
        return
    where = session.target.region
    made = {} if where == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": where}}
    with told_clearly(f"making bucket {bucket.name}"):
        try:
            s3.create_bucket(Bucket=bucket.name, **made)
        except Exception as error:
            if error_code(error) != "BucketAlreadyOwnedByYou":
                raise
        closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        s3.put_public_access_block(**bucket.at, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
        encrypted = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
        s3.put_bucket_encryption(**bucket.at, ServerSideEncryptionConfiguration=encrypted)
        if not (session.target.endpoint_url or "").startswith("http:"):  # one without TLS would refuse itself
            s3.put_bucket_policy(**bucket.at, Policy=json.dumps(policy(bucket)))
        rule = {
            "ID": "labtool",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "Expiration": {"Days": KEPT_DAYS},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        }
        s3.put_bucket_lifecycle_configuration(**bucket.at, LifecycleConfiguration={"Rules": [rule]})
        s3.put_bucket_tagging(**bucket.at, Tagging={"TagSet": tags.to_list({tags.LAB: lab})})


def policy(bucket: Bucket) -> dict[str, Any]:
    """Return the policy that refuses everybody who comes without TLS."""
    arn = f"arn:aws:s3:::{bucket.name}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "OnlyWithTls",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }


def put(session: Session, bucket: Bucket, archive: Path, sha512: str) -> str:
    """Upload an archive unless it is there, and return its key, which is its SHA-512.

    Each part goes with its SHA-256, which S3 compares; what S3 then says of the whole is compared here.
    """
    from boto3.s3.transfer import TransferConfig

    s3 = session.client("s3")
    expected, size = composite_sha256(archive, PART), archive.stat().st_size
    if _holds(s3, bucket, sha512, size, expected):
        return sha512
    config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=8)
    with told_clearly(f"uploading {archive.name}"):
        s3.upload_file(
            str(archive),
            bucket.name,
            sha512,
            ExtraArgs={"ChecksumAlgorithm": "SHA256", "ExpectedBucketOwner": bucket.owner},
            Config=config,
        )
    if not _holds(s3, bucket, sha512, size, expected):
        raise CloudError(f"{archive.name} was altered on its way to bucket {bucket.name}", "run the command again")
    return sha512


def composite_sha256(archive: Path, part: int) -> str:
    """Return S3's ChecksumSHA256 of a file uploaded in parts: that of one part, or of all parts' digests with their
    number (https://docs.aws.amazon.com/AmazonS3/latest/userguide/tutorial-s3-mpu-additional-checksums.html).
    """
    whole = archive.stat().st_size < part
    digests = []
    with archive.open("rb") as stream:
        while chunk := stream.read(part):
            digests.append(hashlib.sha256(chunk).digest())
    if whole:
        return base64.b64encode(digests[0] if digests else hashlib.sha256().digest()).decode()
    return f"{base64.b64encode(hashlib.sha256(b''.join(digests)).digest()).decode()}-{len(digests)}"


def url(session: Session, bucket: Bucket, key: str) -> str:
    """Return a URL that fetches an object without credentials for an hour, as the hosts can reach it."""
    target = session.target
    signing = session
    if target.hosts_endpoint_url:
        signing = Session(replace(target, endpoint_url=target.hosts_endpoint_url))
    where = {"Bucket": bucket.name, "Key": key}
    return str(signing.client("s3").generate_presigned_url("get_object", Params=where, ExpiresIn=URL_S))


def remove(session: Session, bucket: Bucket) -> bool:
    """Remove a bucket and all that it holds; return whether there was one. Cut short, it can be repeated."""
    s3 = session.client("s3")
    with told_clearly(f"removing bucket {bucket.name}"):
        try:
            for page in s3.get_paginator("list_multipart_uploads").paginate(**bucket.at):
                for upload in page.get("Uploads", []):
                    s3.abort_multipart_upload(**bucket.at, Key=upload["Key"], UploadId=upload["UploadId"])
            for page in s3.get_paginator("list_objects_v2").paginate(**bucket.at):
                if page.get("Contents"):
                    found = [{"Key": each["Key"]} for each in page["Contents"]]
                    s3.delete_objects(**bucket.at, Delete={"Objects": found, "Quiet": True})
            s3.delete_bucket(**bucket.at)
        except Exception as error:
            if error_code(error) in _ABSENT:
                return False
            raise
    return True


def _tags(s3: Any, bucket: Bucket) -> dict[str, str]:
    try:
        return tags.to_map(s3.get_bucket_tagging(**bucket.at)["TagSet"])
    except Exception as error:
        if error_code(error) in _ABSENT:
            return {}
        raise


def _holds(s3: Any, bucket: Bucket, key: str, size: int, sha256: str) -> bool:
    with told_clearly(f"looking into bucket {bucket.name}"):
        try:
            found = s3.head_object(**bucket.at, Key=key, ChecksumMode="ENABLED")
        except Exception as error:
            if error_code(error) in _ABSENT:
                return False
            raise
    # The number of parts is left out by some who speak S3.
    held, wanted = (text.partition("-")[0] for text in (found.get("ChecksumSHA256") or "", sha256))
    return bool(found["ContentLength"] == size and held == wanted)
