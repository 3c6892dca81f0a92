"""What can be asked of the tables, by name; every question is answered by a running service and without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from headway.cli.control import Answers, Request
from headway.cli.questions.latency import latency
from headway.cli.questions.lists import jobs, runners, runs, status
from headway.cli.questions.one import events, logs, replay, show
from headway.cli.questions.timeline import timeline
from headway.cli.questions.verify import projections_verify, verify
from headway.cli.questions.why import why
from headway.cli.view import View

QUESTIONS: Final[dict[str, Callable[[View, Request], Answers]]] = {
    "runs": runs,
    "jobs": jobs,
    "runners": runners,
    "status": status,
    "show": show,
    "replay": replay,
    "events": events,
    "logs": logs,
    "verify": verify,
    "projections_verify": projections_verify,
    "timeline": timeline,
    "latency": latency,
    "why": why,
}
