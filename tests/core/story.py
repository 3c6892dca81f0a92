"""Stories about the coordinator: given what happened, when something is asked, then it says exactly this.

A story drives a real desk over a log in memory. After every step it also checks what must always hold: the world
folded from the log, each entry twice, is the live one, and so is the one that comes back from a checkpoint; and a
coordinator that starts from that checkpoint says the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from headway.core import asks
from headway.core.asks import Answer
from headway.core.clock import ManualClock
from headway.core.desk import Desk, open_desk
from headway.core.envelope import Envelope, Fact, decode
from headway.core.events import (
    AnyEvent,
    Failure,
    JobAdmitted,
    JobAssigned,
    JobExecuting,
    JobPreparing,
    JobQueued,
    JobUploading,
    RunAdmitted,
    RunCompleted,
    type_of,
)
from headway.core.log import Entry, Stored
from headway.core.memory import MemoryLog
from headway.core.plan import Job, Plan
from headway.core.run import JobState, Run
from headway.core.states import Outcome, State
from headway.core.world import World
from tests.core import worlds

RUN, PROJECT = "r1", "shop"
BROKE = Failure(failure_class="caller_fixable", reason="exit 1")

FACTS: dict[State, type] = {
    State.PREPARING: JobPreparing,
    State.EXECUTING: JobExecuting,
    State.UPLOADING: JobUploading,
}
"""What a runner says to bring its attempt into a state, in this order."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing said: the event and what it is about, without its place on the log."""

    event: AnyEvent
    run: str = ""
    job: str = ""
    attempt: int = 0


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """A run as somebody submits it."""

    run: str
    plan: Plan
    admitted: RunAdmitted


Given = asks.Ask | Submitted | Line


def job(
    name: str,
    *,
    after: Sequence[str] = (),
    on: Sequence[str] = (),
    retry_count: int = 0,
    group: str = "",
    limit: int = 1,
) -> Job:
    """A job of a plan."""
    return Job(
        name=name,
        depends_on=tuple(after),
        runs_on=tuple(on),
        retry_count=retry_count,
        concurrency_group=group,
        concurrency_limit=limit,
    )


def submitted(
    *jobs: Job | str,
    run: str = RUN,
    project: str = PROJECT,
    attempt_losses_max: int = 3,
    retry_backoff_ms: int = 0,
) -> Submitted:
    """A run of these jobs; a text is a job of that name."""
    plan = Plan(name="ci", jobs=tuple(job(one) if isinstance(one, str) else one for one in jobs))
    admitted = RunAdmitted(
        project=project,
        pipeline="ci",
        jobs=len(jobs),
        plan_digest=f"sha256:{run}",
        attempt_losses_max=attempt_losses_max,
        retry_backoff_ms=retry_backoff_ms,
    )
    return Submitted(run=run, plan=plan, admitted=admitted)


def life(name: str, number: int = 1) -> str:
    """The id of a runner's incarnation."""
    return f"{name}-{number:08x}"


def runner(
    name: str, *labels: str, slots: int = 1, number: int = 1, replaces: Sequence[str] = ()
) -> asks.RegisterRunner:
    """A runner that offers its slots."""
    return asks.RegisterRunner(runner=life(name, number), labels=labels, slots=slots, replaces=tuple(replaces))


def of_job(name: str, event: AnyEvent, *, attempt: int = 1, run: str = RUN) -> Line:
    """What is said about a job."""
    return Line(event=event, run=run, job=name, attempt=attempt)


def of_run(event: AnyEvent, *, run: str = RUN) -> Line:
    """What is said about a run."""
    return Line(event=event, run=run)


def of_fleet(event: AnyEvent) -> Line:
    """What is said about runners."""
    return Line(event=event)


def queued(name: str, *, reason: str = "ready", attempt: int = 1, run: str = RUN, start_after: int = 0) -> Line:
    """The job waits for a slot."""
    return of_job(name, JobQueued(reason=reason, start_after=start_after), attempt=attempt, run=run)


def completed(outcome: Outcome, *, jobs: int = 1, run: str = RUN) -> Line:
    """The run is over. Its place in its history is not part of a line."""
    return of_run(RunCompleted(outcome=outcome, jobs=jobs), run=run)


class Story:
    """A desk, the log it writes, and the ways to ask it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog(self.clock)
        self.desk = Desk("c1")
        self.desk.begin(self.clock.monotonic(), at=self.clock.wall_us())
        self.answer = Answer()
        self._stepped = False
        self.plans: dict[str, Plan] = {}
        self._folded = World()

    @property
    def world(self) -> World:
        return self.desk.world

    def run(self, run: str = RUN) -> Run:
        return self.world.runs[run]

    def job(self, name: str, run: str = RUN) -> JobState:
        return self.run(run).jobs[name]

    # When

    def hears(self, what: Given, *, actor: str = "user:ann") -> list[Line]:
        """Bring something to the desk; what it writes at once, before it decides anything."""
        now, at = self.clock.monotonic(), self.clock.wall_us()
        if isinstance(what, Line):
            fact = Fact(event=what.event, id="", actor=actor, run=what.run, job=what.job, attempt=what.attempt)
            return self._keep(self.desk.write([fact], at=at))
        plan = None
        if isinstance(what, Submitted):
            plan = self.plans[what.run] = what.plan
            what = asks.AdmitRun(run=what.run, admitted=what.admitted)
        self.answer, entries = self.desk.hear(what, actor=actor, now=now, at=at, plan=plan)  # type: ignore[arg-type]
        return self._keep(entries)

    def reports(self, name: str, *facts: asks.RunnerFact, run: str = RUN, attempt: int = 0, by: str = "") -> list[Line]:
        """The runner that holds the job says something of it, or another one about another attempt."""
        held = self.job(name, run)
        at = self.clock.wall_us()
        report = asks.Report(
            runner=by or held.runner,
            run=run,
            job=name,
            attempt=attempt or held.attempt,
            facts=tuple(asks.Said(at=at, what=one) for one in facts),
        )
        return self.hears(report, actor=f"runner:{report.runner}")

    def reaches(self, name: str, state: State, *, run: str = RUN) -> Story:
        """The runner brings the job into a state."""
        for step, kind in FACTS.items():
            held = self.job(name, run)
            if held.state is not state and list(State).index(held.state) < list(State).index(step):
                self.reports(name, kind(fact=held.fact + 1), run=run)
        assert self.job(name, run).state is state
        return self

    def finishes(
        self, name: str, outcome: Outcome = Outcome.SUCCEEDED, *, run: str = RUN, reason: str = ""
    ) -> list[Line]:
        """The runner says how its attempt ended."""
        failure = BROKE if outcome is Outcome.FAILED else None
        fact = self.job(name, run).fact + 1
        end = asks.AttemptFinished(fact=fact, outcome=outcome, failure=failure, reason=reason)
        return self.reports(name, end, run=run)

    def ends(self, name: str, outcome: Outcome = Outcome.SUCCEEDED, *, run: str = RUN) -> Story:
        """The runner's attempt ends, and all that follows is said."""
        self.finishes(name, outcome, run=run)
        self.decides()
        return self

    def restarts(self) -> Story:
        """Another coordinator takes over, from a checkpoint of this moment."""
        self.desk = self._successor()
        return self

    def steps_clock(self, seconds: float) -> Story:
        """Somebody sets the wall clock. Only who was there before knows how much time has really passed."""
        self.clock.step_wall(seconds)
        self._stepped = True
        return self

    def decides(self) -> list[Line]:
        """Whatever the coordinator has to say now, until it is quiet."""
        other = self._successor()
        now, at = self.clock.monotonic(), self.clock.wall_us()
        entries = self.desk.decide(now=now, at=at)
        lines = self._keep(entries)
        silent = sum(type(line.event).__name__ == "RunnerLost" for line in lines)
        if not silent and not self._stepped:  # who is silent is known only to who has listened
            theirs = [line_of(decode(entry.body)) for entry in other.decide(now=now, at=at)]
            assert Counter(map(repr, theirs)) == Counter(map(repr, lines)), (
                "started from a checkpoint it says something else"
            )
        return lines

    # Then

    def says(self, *lines: Line) -> Story:
        """It says exactly this, in this order, and then nothing."""
        assert self.decides() == list(lines)
        assert self.decides() == []
        return self

    def says_nothing(self) -> Story:
        return self.says()

    def refuses(self, ask: Given, *, code: str, actor: str = "user:ann") -> str:
        """The ask is refused and nothing is written; its reason."""
        assert self.hears(ask, actor=actor) == []
        assert self.answer.refused, f"{ask} was not refused"
        assert self.answer.code == code
        return self.answer.refused

    def assigned(self, name: str, to: str, *, attempt: int = 1, run: str = RUN) -> Line:
        """The line that gives a job to a runner."""
        found = self.world.runs[run]
        definition = next(one for one in self.plans[run].jobs if one.name == name)
        event = JobAssigned(
            runner=to,
            definition=msgspec.structs.replace(definition, depends_on=()),
            project=found.project,
            pipeline=found.pipeline,
        )
        return of_job(name, event, attempt=attempt, run=run)

    def said(self, stored: Stored) -> str:
        """The type of what an entry says."""
        return type_of(decode(stored.body).data)

    def leftovers(self) -> dict[str, object]:
        """What the world keeps beside the fleet and the names of what is over."""
        return worlds.empty(self.world)

    # Always

    def _successor(self) -> Desk:
        """A coordinator that starts from a checkpoint of this moment; nobody's silence ends in it."""
        desk = open_desk("c2", checkpoint=self.world.snapshot())
        desk.world.plans = {run: plan for run, plan in self.world.plans.items() if run in desk.world.runs}
        desk.begin(self.clock.monotonic(), at=self.clock.wall_us())
        return desk

    def _keep(self, entries: list[Entry]) -> list[Line]:
        lines = []
        for entry in entries:
            seq = self.log.append_now(entry)
            envelope = decode(entry.body)
            for _ in range(2):
                self._folded.apply(envelope, entry.body, seq)
            lines.append(line_of(envelope))
        assert worlds.state(self._folded) == worlds.state(self.world), "the log folded anew gives another world"
        worlds.check(self.world)
        for one in self.world.fleet.runners.values():
            assert len(one.held) <= one.slots, f"{one.runner} has more than its slots"
        return lines


def line_of(envelope: Envelope) -> Line:
    """What an entry says."""
    event = envelope.data
    if isinstance(event, RunCompleted):
        event = msgspec.structs.replace(event, n=0, prev="")
    return Line(event=event, run=envelope.run, job=envelope.job, attempt=envelope.attempt)


def given(*things: Given) -> Story:
    """A story in which these have happened, one after the other, and all that follows from each has been said."""
    story = Story()
    for thing in things:
        story.hears(thing)
        story.decides()
    return story


def admitted(one: Job) -> Line:
    """The line that makes a job of the plan a node of the run's graph."""
    event = JobAdmitted(
        depends_on=one.depends_on,
        runs_on=one.runs_on,
        retry_count=one.retry_count,
        concurrency_group=one.concurrency_group,
        concurrency_limit=one.concurrency_limit,
    )
    return of_job(one.name, event, attempt=0)
