"""The metrics that EC2 and EBS publish of an instance and its volumes, with their units and periods.

From https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html and
https://docs.aws.amazon.com/ebs/latest/userguide/using_cloudwatch_ebs.html. ListMetrics is not asked for these, since
it lags by up to 15 minutes. GetMetricData counts and bills a metric that is not there as one that is: what an
instance's type surely does not have is left out, and asked for where the type does not say.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

EC2 = "AWS/EC2"
EBS = "AWS/EBS"

STATISTICS = ("Average", "Minimum", "Maximum", "Sum", "SampleCount")
"""What every metric has; up to five of a metric bill as one."""

ASKED = ("Minimum", "Maximum", "Sum", "SampleCount")
"""What is asked for: Average is Sum / SampleCount by CloudWatch's definition, so a fifth query would say nothing new.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html"""


class Needs(Enum):
    """What an instance must be for a metric to be published of it."""

    ANY = "any"
    NITRO = "nitro"
    BURSTABLE = "burstable"
    INSTANCE_STORE = "instance store"


class CatalogueMetric(NamedTuple):
    """A metric, its unit, and the periods (s) at which it is published with detailed and with basic monitoring."""

    name: str
    unit: str
    needs: Needs = Needs.ANY
    finest_s: int = 60
    basic_s: int = 300
    with_instance: bool = False  # of a volume: its dimensions are InstanceId and VolumeId, not VolumeId alone

    def period_s(self, *, detailed: bool) -> int:
        """Return how often it is published."""
        return self.finest_s if detailed else max(self.basic_s, self.finest_s)


EC2_METRICS: tuple[CatalogueMetric, ...] = (
    CatalogueMetric("CPUUtilization", "Percent"),
    CatalogueMetric("NetworkIn", "Bytes"),
    CatalogueMetric("NetworkOut", "Bytes"),
    CatalogueMetric("NetworkPacketsIn", "Count"),
    CatalogueMetric("NetworkPacketsOut", "Count"),
    CatalogueMetric("DiskReadBytes", "Bytes", Needs.INSTANCE_STORE),
    CatalogueMetric("DiskWriteBytes", "Bytes", Needs.INSTANCE_STORE),
    CatalogueMetric("DiskReadOps", "Count", Needs.INSTANCE_STORE),
    CatalogueMetric("DiskWriteOps", "Count", Needs.INSTANCE_STORE),
    CatalogueMetric("EBSReadBytes", "Bytes", Needs.NITRO),
    CatalogueMetric("EBSWriteBytes", "Bytes", Needs.NITRO),
    CatalogueMetric("EBSReadOps", "Count", Needs.NITRO),
    CatalogueMetric("EBSWriteOps", "Count", Needs.NITRO),
    # Every five minutes even where monitoring is detailed.
    CatalogueMetric("EBSIOBalance%", "Percent", Needs.NITRO, 300),
    CatalogueMetric("EBSByteBalance%", "Percent", Needs.NITRO, 300),
    CatalogueMetric("InstanceEBSIOPSExceededCheck", "None", Needs.NITRO, 60, 60),
    CatalogueMetric("InstanceEBSThroughputExceededCheck", "None", Needs.NITRO, 60, 60),
    # Status checks are published each minute whatever the monitoring.
    CatalogueMetric("StatusCheckFailed", "Count", Needs.ANY, 60, 60),
    CatalogueMetric("StatusCheckFailed_Instance", "Count", Needs.ANY, 60, 60),
    CatalogueMetric("StatusCheckFailed_System", "Count", Needs.ANY, 60, 60),
    CatalogueMetric("StatusCheckFailed_AttachedEBS", "Count", Needs.NITRO, 60, 60),
    CatalogueMetric("MetadataNoToken", "Count"),
    CatalogueMetric("MetadataNoTokenRejected", "Count"),
    # In vCPU-minutes, and every five minutes even where monitoring is detailed.
    CatalogueMetric("CPUCreditUsage", "Count", Needs.BURSTABLE, 300),
    CatalogueMetric("CPUCreditBalance", "Count", Needs.BURSTABLE, 300),
    CatalogueMetric("CPUSurplusCreditBalance", "Count", Needs.BURSTABLE, 300),
    CatalogueMetric("CPUSurplusCreditsCharged", "Count", Needs.BURSTABLE, 300),
)

EBS_METRICS: tuple[CatalogueMetric, ...] = (
    CatalogueMetric("VolumeReadBytes", "Bytes", basic_s=60),
    CatalogueMetric("VolumeWriteBytes", "Bytes", basic_s=60),
    CatalogueMetric("VolumeReadOps", "Count", basic_s=60),
    CatalogueMetric("VolumeWriteOps", "Count", basic_s=60),
    CatalogueMetric("VolumeTotalReadTime", "Seconds", basic_s=60),
    CatalogueMetric("VolumeTotalWriteTime", "Seconds", basic_s=60),
    CatalogueMetric("VolumeIdleTime", "Seconds", basic_s=60),
    CatalogueMetric("VolumeQueueLength", "Count", basic_s=60),
    # Of io1 and io2; of gp2, st1 and sc1.
    CatalogueMetric("VolumeThroughputPercentage", "Percent", basic_s=60),
    CatalogueMetric("VolumeConsumedReadWriteOps", "Count", basic_s=60),
    CatalogueMetric("BurstBalance", "Percent", basic_s=60),
    CatalogueMetric("VolumeAvgReadLatency", "Milliseconds", Needs.NITRO, 60, 60, True),
    CatalogueMetric("VolumeAvgWriteLatency", "Milliseconds", Needs.NITRO, 60, 60, True),
    CatalogueMetric("VolumeAvgIOPS", "Count/Second", Needs.NITRO, 60, 60, True),
    CatalogueMetric("VolumeAvgThroughput", "Kilobytes/Second", Needs.NITRO, 60, 60, True),
    CatalogueMetric("VolumeIOPSExceededCheck", "None", Needs.NITRO, 60, 60, True),
    CatalogueMetric("VolumeThroughputExceededCheck", "None", Needs.NITRO, 60, 60, True),
    CatalogueMetric("VolumeStalledIOCheck", "None", Needs.NITRO, 60, 60, True),
)

_XEN = re.compile(r"t[12]|m[1-4]|c[134]|cc[12]|cr1|r[34]|i[23]|d2|h1|hs1|cg1|g2|g3s?|p[23]|x1e?|f1")
"""https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-nitro-instances.html: later families are built on Nitro."""
_BURSTABLE = re.compile(r"t[2-9][a-z-]*")
_WITHOUT_STORE = re.compile(r"t[2-9][a-z-]*|[mcr]4|[mcr](?:[5-9]|1\d)(?:(?!.*d)[a-z-]*)")
"""General, compute and memory families without the letter d (https://docs.aws.amazon.com/ec2/latest/instancetypes/
instance-type-names.html)."""


def published(instance_type: str, needs: Needs) -> bool:
    """Return False where an instance of this type surely has no metric with such needs."""
    family, _, size = instance_type.partition(".")
    if needs is Needs.NITRO:
        return _XEN.fullmatch(family) is None or size.startswith("metal")
    if needs is Needs.BURSTABLE:
        return not family or _BURSTABLE.fullmatch(family) is not None
    if needs is Needs.INSTANCE_STORE:
        return _WITHOUT_STORE.fullmatch(family) is None
    return True


_NUMBER = r"(?:100|\d{1,2})(?:\.\d{1,10})?"
_BOUND = r"-?\d+(?:\.\d{1,10})?%?"
_EXTENDED = re.compile(rf"p{_NUMBER}|(?:tm|wm|tc|ts){_NUMBER}|IQM|(?:TM|WM|TC|TS|PR)\((?:{_BOUND})?:(?:{_BOUND})?\)")


def is_extended(text: str) -> bool:
    """Return True if `text` is a statistic that CloudWatch makes of single values: p99, tm90, TM(2%:98%), PR(:300)."""
    return _EXTENDED.fullmatch(text) is not None
