"""A search for the highest rate at which objectives hold (`--find-max`): its answer, and how far it can be off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from labtool.analysis import format as fmt
from labtool.analysis.data import Requests, RunData, Step
from labtool.analysis.model import Finding, Severity, Value


@dataclass(frozen=True)
class Answer:
    """The highest rate that held and the lowest above it that did not; None where no step was of that kind."""

    held: Step | None
    failed: Step | None
    again: int  # steps at or below the rate that held which did not hold themselves

    @property
    def by_generator(self) -> bool:
        """True if the step that did not hold says something of the load host, and not of the servers."""
        return self.failed is not None and self.failed.saturated


def answer(steps: Sequence[Step]) -> Answer | None:
    """Return what the steps say; None where there was no search. A step with too few requests decides nothing."""
    if not steps:
        return None
    sure = [step for step in steps if not step.too_few]
    held = max((step for step in sure if step.held), key=lambda step: step.offered, default=None)
    least = held.offered if held else 0.0
    lost = [step for step in sure if not step.held]
    failed = min((step for step in lost if step.offered > least), key=lambda step: step.offered, default=None)
    return Answer(held, failed, sum(step.offered <= least for step in lost))


def focused(requests: Requests, steps: Sequence[Step], noun: str = "requests") -> Requests:
    """Count the requests of one step alone, the one that held (or the lowest): those of several rates mean nothing."""
    found = answer(steps)
    step = (found.held or found.failed) if found else None
    if step is None:
        return requests
    inside = (requests.due >= step.start - 1e-6) & (requests.due < step.end)
    return replace(
        requests, warmup=requests.warmup | ~inside, counted_as=f"in the step at {fmt.rate(step.offered, noun)}"
    )


def objectives(step: Step) -> str:
    """Return what was to hold: "p99 < 50 ms and errors < 0.1 %"."""
    return fmt.listed([one.text for one in step.objectives], 8)


def values(step: Step) -> str:
    """Return what a step had: "p99 61 ms, errors 0 %"."""
    found = []
    for one in step.objectives:
        name = one.text.replace("<", " ").split()[0]
        value = "too slow to tell" if one.value is None else f"{fmt.number(one.value)} {one.unit}"
        found.append(f"{name} {value}")
    return ", ".join(found)


def noun_of(data: RunData) -> str:
    """Return what the rates of a search are of."""
    return data.record.operations or "requests"


def findings(data: RunData) -> list[Finding]:
    """Return the answer of a search; nothing where there was none."""
    found = answer(data.steps)
    if found is None:
        return []
    severity, _, sentence = conclusion(found, "query" if data.stream else "servers", noun_of(data))
    evidence: dict[str, Value] = {
        "held_per_s": found.held.offered if found.held else None,
        "failed_per_s": found.failed.offered if found.failed else None,
        "steps": len(data.steps),
        "failed_below": found.again,
    }
    bound = f"{fmt.plural(len(data.steps), 'step')} within this run"
    if found.held and found.failed:
        apart = (found.failed.offered - found.held.offered) / found.held.offered
        bound = f"the two rates are {fmt.percent(apart)} apart; {bound}"
    if found.again:
        sentence += f" At or below that rate {fmt.plural(found.again, 'step')} did not hold: the limit is not sharp."
    window = (found.held.start, found.held.end) if found.held else None
    return [Finding("load.search", "load", severity, sentence, bound, evidence, "steps", "", window)]


def conclusion(found: Answer, who: str, noun: str = "requests") -> tuple[Severity, str, str]:
    """Return the answer as severity, label and sentence."""
    held, failed = found.held, found.failed
    if held is None:
        if failed is None:
            return "refused", f"Too few {noun}", f"No step of the search had enough {noun} to say whether it held."
        rate = fmt.rate(failed.offered, noun)
        if failed.saturated:
            sentence = f"The load host itself was late at {rate}, the lowest rate tried: nothing is said of the {who}."
            return "refused", "Load hosts at limit", sentence
        sentence = f"No rate held {objectives(failed)}: at {rate}, the lowest that was tried, it was {values(failed)}."
        return "problem", "Nothing held", sentence
    sentence = f"The {who} held {objectives(held)} up to {fmt.rate(held.offered, noun)} ({values(held)})"
    if failed is None:
        return "note", "No limit found", f"{sentence}, the highest rate that was tried: they may hold more."
    rate = fmt.rate(failed.offered, noun)
    if failed.saturated:
        return (
            "refused",
            "Load hosts at limit",
            f"{sentence}; at {rate} the load host itself was late: they may hold more.",
        )
    return "ok", "Highest rate found", f"{sentence}, and not {rate} ({values(failed)})."
