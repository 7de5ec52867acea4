"""The metrics that EC2 publishes of an instance (namespace AWS/EC2, dimension InstanceId), with their units.

From https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html. Asking for a metric that
an instance does not have costs nothing and answers nothing: instance-store metrics where there is no instance store,
credits where the type is not burstable, EBS metrics where it is not built on Nitro. ListMetrics is not asked, since it
lags by up to 15 minutes.
"""

from __future__ import annotations

from typing import NamedTuple

NAMESPACE = "AWS/EC2"

STATISTICS = ("Average", "Minimum", "Maximum", "Sum", "SampleCount")
"""All that GetMetricData gives without percentiles; the five of a metric bill as one."""


class CatalogueMetric(NamedTuple):
    """A metric, its unit, and the finest period at which EC2 publishes it (s)."""

    name: str
    unit: str
    finest_s: int = 60


METRICS: tuple[CatalogueMetric, ...] = (
    CatalogueMetric("CPUUtilization", "Percent"),
    CatalogueMetric("NetworkIn", "Bytes"),
    CatalogueMetric("NetworkOut", "Bytes"),
    CatalogueMetric("NetworkPacketsIn", "Count"),
    CatalogueMetric("NetworkPacketsOut", "Count"),
    CatalogueMetric("DiskReadBytes", "Bytes"),
    CatalogueMetric("DiskWriteBytes", "Bytes"),
    CatalogueMetric("DiskReadOps", "Count"),
    CatalogueMetric("DiskWriteOps", "Count"),
    CatalogueMetric("EBSReadBytes", "Bytes"),
    CatalogueMetric("EBSWriteBytes", "Bytes"),
    CatalogueMetric("EBSReadOps", "Count"),
    CatalogueMetric("EBSWriteOps", "Count"),
    CatalogueMetric("EBSIOBalance%", "Percent"),
    CatalogueMetric("EBSByteBalance%", "Percent"),
    CatalogueMetric("InstanceEBSIOPSExceededCheck", "None"),
    CatalogueMetric("InstanceEBSThroughputExceededCheck", "None"),
    CatalogueMetric("StatusCheckFailed", "Count"),
    CatalogueMetric("StatusCheckFailed_Instance", "Count"),
    CatalogueMetric("StatusCheckFailed_System", "Count"),
    CatalogueMetric("StatusCheckFailed_AttachedEBS", "Count"),
    CatalogueMetric("MetadataNoToken", "Count"),
    CatalogueMetric("MetadataNoTokenRejected", "Count"),
    # Burstable types; in vCPU-minutes, and every five minutes even where monitoring is detailed.
    CatalogueMetric("CPUCreditUsage", "Count", 300),
    CatalogueMetric("CPUCreditBalance", "Count", 300),
    CatalogueMetric("CPUSurplusCreditBalance", "Count", 300),
    CatalogueMetric("CPUSurplusCreditsCharged", "Count", 300),
)
