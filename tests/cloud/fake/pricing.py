"""AWS's price list: what GetProducts says about instances and volumes, in the form in which it says it."""

from __future__ import annotations

import json
from typing import Any

# Not AWS's prices: others than in the table that labtool ships, so that a test sees whose were taken.
HOURLY = {"t3.micro": 0.015, "t3.small": 0.03, "t3.medium": 0.06, "m5.large": 0.12, "x9.new": 9.0}
GP3_GIB_MONTH = 0.1
EVERYWHERE = {"operatingSystem": "Linux", "preInstalledSw": "NA", "tenancy": "Shared", "capacitystatus": "Used",
              "licenseModel": "No License required", "regionCode": "us-east-1"}  # fmt: skip


class Pricing:
    """One region's part of the list; an instance type is in it reserved capacity too, at no price."""

    def get_products(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer one product a page."""
        wanted = {each["Field"]: each["Value"] for each in asked.get("Filters", [])}
        found = [product for product in self._all() if self._matches(product, wanted)]
        first = int(asked.get("NextToken", 0))
        more = {"NextToken": str(first + 1)} if first + 1 < len(found) else {}
        return {"FormatVersion": "aws_v1", "PriceList": [json.dumps(p) for p in found[first : first + 1]], **more}

    def _matches(self, product: dict[str, Any], wanted: dict[str, str]) -> bool:
        has = {**product["product"]["attributes"], "productFamily": product["product"]["productFamily"]}
        return all(has.get(name) == value for name, value in wanted.items())

    def _all(self) -> list[dict[str, Any]]:
        made = [self._product("Storage", {"volumeApiName": "gp3", "regionCode": "us-east-1"}, "GB-Mo", GP3_GIB_MONTH)]
        for instance_type, price in HOURLY.items():
            for capacity, usd in (("Used", price), ("AllocatedCapacityReservation", 0.0), ("Used", 0.0)):
                attributes = {**EVERYWHERE, "instanceType": instance_type, "capacitystatus": capacity}
                made.append(self._product("Compute Instance", attributes, "Hrs", usd))
        return made

    def _product(self, family: str, attributes: dict[str, str], unit: str, usd: float) -> dict[str, Any]:
        dimension = {"unit": unit, "pricePerUnit": {"USD": f"{usd:.10f}"}, "description": f"${usd} per {unit}"}
        offer = {"effectiveDate": "2026-01-01T00:00:00Z", "priceDimensions": {"A.B.C": dimension}}
        reserved = {"priceDimensions": {"A.B.D": {"unit": "Quantity", "pricePerUnit": {"USD": "999"}}}}
        return {
            "product": {"productFamily": family, "attributes": attributes},
            "terms": {"OnDemand": {"A.B": offer}, "Reserved": {"A.D": reserved}},
        }
