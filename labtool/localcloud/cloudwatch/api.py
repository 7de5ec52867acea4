"""CloudWatch's operations on metrics."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labtool.localcloud.cloudwatch import extended, protocol
from labtool.localcloud.cloudwatch.cbor import Stamp
from labtool.localcloud.cloudwatch.protocol import Answer, ApiError, Call, MetricResult, moment
from labtool.localcloud.cloudwatch.store import UNITS, Datum, Metric, Series, Store

MAX_QUERIES = 500
MAX_POINTS = 100_800
MAX_STATISTICS_POINTS = 1_440
LIST_PAGE = 500
STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
_OLDEST_S, _NEWEST_S = 14 * 86400, 2 * 3600  # what PutMetricData takes


class CloudWatch:
    """The operations on metrics; other operations of the service (alarms, dashboards) are moto's."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._operations: dict[str, Callable[[Call], Answer]] = {
            "PutMetricData": self._put,
            "GetMetricData": self._data,
            "GetMetricStatistics": self._statistics,
            "ListMetrics": self._list,
        }

    def serves(self, environ: dict[str, Any]) -> bool:
        """True if the request is for us; a Query request's body is read for it and put back."""
        name = protocol.operation(environ)
        if environ.get("HTTP_SMITHY_PROTOCOL") == "rpc-v2-cbor":
            return True
        if name is None:
            body = protocol.read_body(environ)
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
            environ.pop("HTTP_CONTENT_ENCODING", None)
            found = re.search(rb"(?:^|&)Action=(\w+)", body or environ.get("QUERY_STRING", "").encode())
            name = found[1].decode() if found else None
        return name in self._operations

    def answer(self, environ: dict[str, Any]) -> Answer:
        """Answer a request."""
        call = Call("", {}, "cbor" if environ.get("HTTP_SMITHY_PROTOCOL") else "json")
        try:
            call = protocol.parse(environ, protocol.read_body(environ))
            action = self._operations.get(call.operation)
            if action is None:
                raise ApiError("UnsupportedOperation", f"The local cloud has no {call.operation} in CBOR.")
            return action(call)
        except ApiError as error:
            return protocol.refuse(call, error)

    def _put(self, call: Call) -> Answer:
        namespace = str(call.parameters.get("Namespace") or "")
        if not namespace:
            raise ApiError("MissingParameter", "The parameter Namespace is required.")
        if namespace.startswith("AWS/"):
            raise ApiError(
                "InvalidParameterValue", f"The value {namespace} for parameter Namespace is invalid: AWS/ is reserved."
            )
        entries = call.parameters.get("MetricData") or []
        if len(entries) > 1000:
            raise ApiError("InvalidParameterValue", "The collection MetricData must not have a size greater than 1000.")
        now = time.time()
        self.store.put(_datum(namespace, entry, now) for entry in entries)
        return protocol.answer(call, {})

    def _list(self, call: Call) -> Answer:
        wanted = [(str(d["Name"]), d.get("Value")) for d in call.parameters.get("Dimensions") or []]
        recent = call.parameters.get("RecentlyActive")
        found = self.store.metrics(
            call.parameters.get("Namespace"),
            call.parameters.get("MetricName"),
            wanted,
            since=time.time() - 3 * 3600 if recent else 0,
        )
        start = _offset(call.parameters.get("NextToken"))
        page = found[start : start + LIST_PAGE]
        result: dict[str, Any] = {"Metrics": [_describe(metric) for metric in page]}
        if start + LIST_PAGE < len(found):
            result["NextToken"] = _token({"at": start + LIST_PAGE})
        return protocol.answer(call, result)

    def _statistics(self, call: Call) -> Answer:
        given = call.parameters
        metric = _metric(given)
        period = _period(given.get("Period"))
        start, end = _window(given, period)
        names = [str(name) for name in given.get("Statistics") or []]
        extended = [str(name) for name in given.get("ExtendedStatistics") or []]
        if not names and not extended:
            raise ApiError("MissingParameter", "Must specify either Statistics or ExtendedStatistics")
        if unknown := [name for name in names if name not in STATISTICS]:
            raise ApiError("InvalidParameterValue", f"The value {unknown[0]} for parameter Statistics is invalid.")
        asked = (end - start) // period
        if asked > MAX_STATISTICS_POINTS:
            raise ApiError(
                "InvalidParameterCombination",
                f"You have requested up to {asked:,} datapoints, which exceeds the limit of {MAX_STATISTICS_POINTS:,}. "
                "You may reduce the datapoints requested by increasing Period, or decreasing the time range.",
            )
        unit = _unit(given.get("Unit"))
        series = self.store.read(metric, start, end, period, unit)
        shown = unit or self.store.unit(metric, start, end)
        columns = {name: series.statistic(name) for name in names}
        points: dict[int, dict[str, Any]] = {
            t: {"Timestamp": Stamp(t), **{name: float(columns[name][i]) for name in names}, "Unit": shown}
            for i, t in enumerate(series.times)
        }
        for name in extended:
            for t, value in zip(*self.store.extended(metric, start, end, period, _extended(name), unit), strict=True):
                point = points.setdefault(t, {"Timestamp": Stamp(t), "Unit": shown})
                point.setdefault("ExtendedStatistics", {})[name] = value
        ordered = [points[t] for t in sorted(points)]
        if call.protocol == "query":
            for point in ordered:  # a map in XML is a list of entries
                if known := point.get("ExtendedStatistics"):
                    entries = [{"key": k, "value": v} for k, v in known.items()]
                    point["ExtendedStatistics"] = {"entry": entries[0]}
        return protocol.answer(call, {"Label": metric.name, "Datapoints": ordered})

    def _data(self, call: Call) -> Answer:
        queries = call.parameters.get("MetricDataQueries") or []
        _check_queries(queries)
        limit = int(call.parameters.get("MaxDatapoints") or MAX_POINTS)
        if not 0 < limit <= MAX_POINTS:
            raise ApiError("ValidationError", f"MaxDatapoints must be between 1 and {MAX_POINTS}.")
        scan = call.parameters.get("ScanBy") or "TimestampDescending"
        if scan not in ("TimestampDescending", "TimestampAscending"):
            raise ApiError("ValidationError", f"The value {scan} for parameter ScanBy is invalid.")
        reverse = scan == "TimestampDescending"
        digest = _digest(call.parameters)
        first, skip = _position(call.parameters.get("NextToken"), digest)
        cache: dict[tuple[Any, ...], Series] = {}
        results: list[MetricResult] = []
        total = 0
        for index in range(first, len(queries)):
            query = queries[index]
            if query.get("ReturnData") in (False, "false"):
                continue
            times, values = self._points(query, call.parameters, cache, reverse=reverse)
            if skip:
                times, values = times[skip:], values[skip:]
            room = limit - total
            cut = len(times) > room
            if cut and results and len(times) <= limit:
                # A whole query a page where it fits: the client need not join parts.
                return protocol.metric_data(call, results, _token({"q": index, "skip": skip, "of": digest}))
            if cut:
                times, values = times[:room], values[:room]
            results.append(_result(query, times, values, "PartialData" if cut else "Complete"))
            total += len(times)
            if cut:
                token = _token({"q": index, "skip": skip + room, "of": digest})
                return protocol.metric_data(call, results, token)
            skip = 0
        return protocol.metric_data(call, results, None)

    def _points(
        self,
        query: Mapping[str, Any],
        parameters: Mapping[str, Any],
        cache: dict[tuple[Any, ...], Series],
        *,
        reverse: bool,
    ) -> tuple[Sequence[int], Sequence[float]]:
        stat = query["MetricStat"]
        metric = _metric(stat["Metric"])
        period = _period(stat.get("Period"))
        start, end = _window(parameters, period)
        unit = _unit(stat.get("Unit"))
        name = str(stat.get("Stat") or "")
        if name not in STATISTICS:
            times, values = self.store.extended(metric, start, end, period, _extended(name), unit)
            return (times[::-1], values[::-1]) if reverse else (times, values)
        key = (metric, start, end, period, unit)
        if key not in cache:
            series = self.store.read(metric, start, end, period, unit)
            if reverse:
                series = series.reversed()
            for other in cache.values():  # metrics of one host have the same times: written once
                if other.times == series.times:
                    series = Series(other.times, series.sums, series.mins, series.maxs, series.counts)
                    break
            cache[key] = series
        return cache[key].times, cache[key].statistic(name)


def _check_queries(queries: Sequence[Mapping[str, Any]]) -> None:
    if not queries:
        raise ApiError("ValidationError", "The parameter MetricDataQueries is required.")
    if len(queries) > MAX_QUERIES:
        raise ApiError(
            "ValidationError",
            f"The collection MetricDataQueries must not have a size greater than {MAX_QUERIES}; it has {len(queries)}.",
        )
    seen: set[str] = set()
    for query in queries:
        name = str(query.get("Id") or "")
        if not re.fullmatch(r"[a-z]\w{0,254}", name, re.ASCII):
            raise ApiError("ValidationError", f"The value {name!r} for parameter Id is invalid.")
        if name in seen:
            raise ApiError("ValidationError", f"The value for key Id ({name}) is duplicated.")
        seen.add(name)
        if query.get("Expression"):
            raise ApiError(
                "ValidationError", f"Query {name}: the local cloud evaluates no expressions; ask for the metrics."
            )
        if not query.get("MetricStat"):
            raise ApiError("ValidationError", f"Query {name} has no MetricStat.")


def _result(query: Mapping[str, Any], times: Sequence[int], values: Sequence[float], status: str) -> MetricResult:
    label = query.get("Label") or query["MetricStat"]["Metric"].get("MetricName", "")
    return MetricResult(str(query["Id"]), str(label), times, values, status)


def _metric(given: Mapping[str, Any]) -> Metric:
    namespace, name = given.get("Namespace"), given.get("MetricName")
    if not namespace or not name:
        raise ApiError("MissingParameter", "The parameters Namespace and MetricName are required.")
    return Metric(str(namespace), str(name), _dimensions(given.get("Dimensions")))


def _dimensions(given: Any) -> tuple[tuple[str, str], ...]:
    if len(given or []) > 30:
        raise ApiError("InvalidParameterValue", "The collection Dimensions must not have a size greater than 30.")
    return tuple(sorted((str(d["Name"]), str(d["Value"])) for d in given or []))


def _datum(namespace: str, entry: Mapping[str, Any], now: float) -> Datum:
    name = entry.get("MetricName")
    if not name:
        raise ApiError("MissingParameter", "The parameter MetricData.member.MetricName is required.")
    when = moment(entry["Timestamp"], "Timestamp") if entry.get("Timestamp") is not None else now
    if not now - _OLDEST_S <= when <= now + _NEWEST_S:
        raise ApiError(
            "InvalidParameterValue",
            "The parameter Timestamp must be within the last two weeks and no more than two hours in the future.",
        )
    metric = Metric(namespace, str(name), _dimensions(entry.get("Dimensions")))
    resolution = int(entry.get("StorageResolution") or 60)
    if resolution not in (1, 60):
        raise ApiError("InvalidParameterValue", "StorageResolution is 1 or 60.")
    unit = _unit(entry.get("Unit")) or "None"
    if given := entry.get("StatisticValues"):
        count = _number(given.get("SampleCount"), "SampleCount")
        if count <= 0:
            raise ApiError("InvalidParameterValue", "SampleCount must be greater than 0.")
        total, low, high = (_number(given.get(key), key) for key in ("Sum", "Minimum", "Maximum"))
        return Datum(metric, when, total, low, high, count, unit, resolution)
    values = [_number(v, "Values") for v in entry.get("Values") or []]
    counts = [_number(c, "Counts") for c in entry.get("Counts") or [1.0] * len(values)]
    if entry.get("Value") is not None:
        values, counts = [_number(entry["Value"], "Value")], [1.0]
    if not values or len(values) != len(counts) or len(values) > 150:
        raise ApiError(
            "InvalidParameterValue", f"{name} needs a Value, StatisticValues, or up to 150 Values with as many Counts."
        )
    pairs = list(zip(values, counts, strict=True))
    total = math.fsum(value * count for value, count in pairs)
    return Datum(metric, when, total, min(values), max(values), sum(counts), unit, resolution, pairs)


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ApiError("InvalidParameterValue", f"The value {value} for parameter {name} is invalid.") from None
    if not math.isfinite(number):
        raise ApiError("InvalidParameterValue", f"The value {value} for parameter {name} is not supported.")
    return number


def _unit(value: Any) -> str | None:
    if value is not None and value not in UNITS:
        raise ApiError("InvalidParameterValue", f"The value {value} for parameter Unit is invalid.")
    return value  # type: ignore[no-any-return]


def _period(value: Any) -> int:
    try:
        period = int(value)
    except (TypeError, ValueError):
        period = 0
    if period not in (1, 5, 10, 20, 30) and (period <= 0 or period % 60):
        raise ApiError("ValidationError", "Period must be 1, 5, 10, 20, 30 or a multiple of 60 seconds.")
    return period


def _window(given: Mapping[str, Any], period: int) -> tuple[int, int]:
    """Return start and end, down to the whole period's unit as CloudWatch does (a minute, or the period below it)."""
    for name in ("StartTime", "EndTime"):
        if given.get(name) is None:
            raise ApiError("MissingParameter", f"The parameter {name} is required.")
    step = min(period, 60)
    start = math.floor(moment(given["StartTime"], "StartTime") / step) * step
    end = math.ceil(moment(given["EndTime"], "EndTime") / step) * step
    if start >= end:
        raise ApiError("ValidationError", "The parameter EndTime must be greater than StartTime.")
    return start, end


def _extended(name: str) -> Callable[[extended.Values], float | None]:
    found = extended.statistic(name)
    if found is None:
        raise ApiError("InvalidParameterValue", f"The value {name} for the parameter Stat is no statistic.")
    return found


def _describe(metric: Metric) -> dict[str, Any]:
    dimensions = [{"Name": name, "Value": value} for name, value in metric.dimensions]
    return {"Namespace": metric.namespace, "MetricName": metric.name, "Dimensions": dimensions}


def _digest(parameters: Mapping[str, Any]) -> str:
    kept = {key: value for key, value in parameters.items() if key not in ("NextToken", "MaxDatapoints")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _token(state: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(state).encode()).decode()


def _untoken(token: Any) -> dict[str, Any]:
    try:
        state = json.loads(base64.urlsafe_b64decode(str(token)))
    except ValueError:
        state = None
    if not isinstance(state, dict):
        raise ApiError("InvalidNextToken", "The next token is invalid.")
    return state


def _offset(token: Any) -> int:
    return int(_untoken(token).get("at", 0)) if token else 0


def _position(token: Any, digest: str) -> tuple[int, int]:
    if not token:
        return 0, 0
    state = _untoken(token)
    if state.get("of") != digest:
        raise ApiError("InvalidNextToken", "The next token belongs to another request.")
    return int(state["q"]), int(state["skip"])
