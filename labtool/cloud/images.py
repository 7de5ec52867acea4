"""Machine images by name: the public SSM parameter of a distribution, and its login user."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labtool.cloud.session import Session, error_code, told_clearly
from labtool.errors import CloudError, UsageError, unknown


@dataclass(frozen=True)
class Distribution:
    """A distribution's newest image."""

    parameter: str
    login: str
    ssm_agent: bool = True  # Systems Manager's agent is in the image


DISTRIBUTIONS = {
    # https://wiki.debian.org/Cloud/AmazonEC2Image
    "debian-12": Distribution("/aws/service/debian/release/12/latest/amd64", "admin", ssm_agent=False),
    "debian-13": Distribution("/aws/service/debian/release/13/latest/amd64", "admin", ssm_agent=False),
    # https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/
    "ubuntu-22.04": Distribution(
        "/aws/service/canonical/ubuntu/server/22.04/stable/current/amd64/hvm/ebs-gp2/ami-id", "ubuntu"
    ),
    "ubuntu-24.04": Distribution(
        "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id", "ubuntu"
    ),
    # https://docs.aws.amazon.com/linux/al2023/ug/ec2.html
    "amazon-linux-2023": Distribution(
        "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64", "ec2-user"
    ),
}


@dataclass(frozen=True)
class Image:
    """An AMI, who logs in to it, and its root device."""

    id: str
    login: str
    root_device: str


def resolve(session: Session, name: str | None) -> Image:
    """Return the image called `name`: a distribution of `DISTRIBUTIONS` or an AMI id."""
    name = name or session.target.default_image
    check_name(name)
    if name not in DISTRIBUTIONS:
        return _describe(session, name, None)
    wanted = DISTRIBUTIONS[name]
    with told_clearly(f"looking for image {name}"):
        try:
            parameter = session.client("ssm").get_parameter(Name=wanted.parameter)
        except Exception as error:
            if error_code(error) != "ParameterNotFound":
                raise
            raise CloudError(
                f"this cloud has no image {name}",
                f"its own is {session.target.default_image}: leave out --image",
            ) from None
    return _describe(session, parameter["Parameter"]["Value"], wanted.login)


def check_name(name: str) -> None:
    """Return if `name` is a distribution's or may be an AMI's id; `UsageError` names the nearest distributions."""
    if name not in DISTRIBUTIONS and not re.fullmatch(r"ami-[0-9a-f]+", name):
        raise unknown("image", name, DISTRIBUTIONS)


def need_ssm_agent(session: Session, name: str | None) -> None:
    """Refuse an image that Session Manager cannot reach; of an AMI id its owner knows."""
    name = name or session.target.default_image
    if name in DISTRIBUTIONS and not DISTRIBUTIONS[name].ssm_agent:
        able = ", ".join(known for known, each in DISTRIBUTIONS.items() if each.ssm_agent)
        raise UsageError(f"--ssm: {name} comes without Systems Manager's agent", f"--image, one of {able}")


def _describe(session: Session, image_id: str, login: str | None) -> Image:
    with told_clearly(f"reading image {image_id}"):
        images = session.ec2.describe_images(ImageIds=[image_id])["Images"]
    if not images:
        raise CloudError(f"there is no image {image_id} in {session.target.region}")
    name = images[0].get("Name", "").lower()
    if login is None:
        login = "ubuntu" if "ubuntu" in name else "ec2-user" if re.search(r"al20|amzn|rhel", name) else "admin"
    return Image(image_id, login, images[0].get("RootDeviceName") or "/dev/xvda")
