"""Prices as AWS's price list has them today, asked once a week for a region and type, else the table we ship.

The list is asked with GetProducts, which costs nothing and is answered in few regions for all of them:
https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/price-list-query-api.html
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from labtool import config
from labtool.cloud import clock
from labtool.cloud.price import SHIPPED, Prices
from labtool.cloud.session import Session, told_clearly
from labtool.errors import CloudError

KEPT = timedelta(days=7)
_GP3 = "gp3"
_INSTANCE = {
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "licenseModel": "No License required",
    "tenancy": "Shared",
    "capacitystatus": "Used",
}
_VOLUME = {"productFamily": "Storage", "volumeApiName": _GP3}

Known = dict[str, tuple[str, float]]
"""What was asked for → the day it was answered, and the price."""


def prices(session: Session, types: Iterable[str]) -> Prices:
    """Return the prices of instances of `types` and of gp3 volumes in the session's region.

    Where nothing is billed nothing is asked. Of a list that does not answer, or may not be asked, what it once said is
    taken, and for a type of which it never said anything the table we ship.
    """
    region = session.target.region
    if not session.target.billed:
        return SHIPPED
    file = config.cache() / "prices" / f"{region}.json"
    known = _read(file)
    today = clock.now().date()
    wanted = [_GP3, *sorted(set(types))]
    old = [what for what in wanted if what not in known or date.fromisoformat(known[what][0]) < today - KEPT]
    try:
        with told_clearly("asking for prices"):
            found = {what: price for what in old if (price := _ask(session, region, what)) is not None}
    except CloudError:
        if any(what not in known for what in wanted):
            return replace(SHIPPED, where=region)  # as a whole, so that one date is true of all
    else:
        known |= {what: (today.isoformat(), price) for what, price in found.items()}
        if found:
            _write(file, known)
    if _GP3 not in known:
        return replace(SHIPPED, where=region)
    hourly = {what: price for what, (_, price) in known.items() if what != _GP3}
    return Prices(region, min(known[what][0] for what in wanted if what in known), hourly, known[_GP3][1])


def _ask(session: Session, region: str, what: str) -> float | None:
    """Return US dollars for an hour of an instance type, or a month of a GiB of gp3; None if it is not listed."""
    fields = {"regionCode": region} | (_VOLUME if what == _GP3 else {"instanceType": what, **_INSTANCE})
    pages = (
        session.client("pricing", attempts=2)
        .get_paginator("get_products")
        .paginate(
            ServiceCode="AmazonEC2",
            FormatVersion="aws_v1",
            Filters=[{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()],
        )
    )
    found = [price for page in pages for product in page["PriceList"] for price in on_demand(json.loads(product))]
    # A product that is listed more than once: better too much than too little.
    return max(found, default=None)


def on_demand(product: Mapping[str, Any]) -> list[float]:
    """Return the on-demand prices in US dollars of a product of the price list, without those of nothing."""
    return [
        price
        for offer in product.get("terms", {}).get("OnDemand", {}).values()
        for dimension in offer["priceDimensions"].values()
        if (price := float(dimension["pricePerUnit"].get("USD", 0)))
    ]


def _read(file: Path) -> Known:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {what: (date.fromisoformat(day).isoformat(), float(price)) for what, (day, price) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # it can be asked again


def _write(file: Path, known: Known) -> None:
    file.parent.mkdir(exist_ok=True, mode=0o700)
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(known, indent=1, sort_keys=True), encoding="utf-8")
    temporary.replace(file)
