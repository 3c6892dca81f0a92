"""What is left when nothing holds a job up: the coordinator's word is due, nobody can say it, or nobody knows why."""

from __future__ import annotations

from typing import Final

from headway.projections.answers import Facts, Finding, Service
from headway.projections.causes import Cause
from headway.projections.ground import Ground, Moment
from headway.projections.words import span

DUE_US: Final = 1_000_000
"""How long the coordinator may take, in the eyes of whoever asks."""

TURN_TO: Final = (
    "headway doctor and headway projections verify; if they find nothing, report it with headway why --json"
)
"""Where to turn when nobody knows."""

WORKS: Final = ("the log can be reached", "a coordinator is at work")
"""What is excluded of a running service when it has no trouble."""


def due(
    ground: Ground, *, what: str, since_us: int, evidence: tuple[int, ...], excluded: tuple[str, ...] = ()
) -> Finding:
    """The coordinator has to say what follows, and can since `since_us`; `excluded` is what was looked at besides."""
    trouble = trouble_of(ground.moment)
    if trouble is not None:
        return Finding(
            cause=trouble.cause,
            words=f"{what}, but {trouble.words}",
            unblocks=trouble.unblocks,
            evidence=evidence,
        )
    age_us = ground.now_us - since_us
    if age_us <= DUE_US:
        return Finding(
            cause=Cause.DUE, words=f"{what}: the coordinator's word is due", unblocks="nothing to do", evidence=evidence
        )
    live = ground.moment.live
    if live is not None and not live.coordinates:
        return Finding(
            cause=Cause.NO_COORDINATOR,
            words=f"{what}, but the service that coordinates has said nothing of it for {span(age_us // 1000)};"
            " this one stands by",
            unblocks="that service, or this one when it takes over; headway doctor says more",
            unknown="whether the service that coordinates works",
            evidence=evidence,
        )
    return Finding(
        cause=Cause.UNEXPLAINED,
        words=f"nothing that is known holds it up, and nothing has happened for {span(age_us // 1000)}: {what}",
        unblocks=TURN_TO,
        unknown="whether the log and a coordinator worked then" if ground.moment.past else "why nothing happens",
        evidence=evidence,
        facts=Facts(excluded=(*excluded, *(() if ground.moment.past else WORKS))),
    )


def trouble_of(moment: Moment) -> Service | None:
    """What keeps everything from moving; None when the service works, or the past is asked about."""
    if moment.past:
        return None
    live = moment.live
    if live is None:
        return Service(
            cause=Cause.SERVICE_DOWN,
            words="the service is not running: nothing new starts until it is",
            unblocks="headway up",
        )
    if live.log_trouble:
        return Service(
            cause=Cause.LOG_UNREACHABLE,
            words=f"{live.log_trouble}: nothing new starts until it can be written to",
            unblocks="the log's server; headway doctor says more",
        )
    if not live.coordinates and live.coordinator_trouble:
        return Service(
            cause=Cause.NO_COORDINATOR,
            words=f"nobody coordinates: {live.coordinator_trouble}",
            unblocks="a coordinator; headway doctor says more",
        )
    return None
