"""Histories as a coordinator would write them: a log in memory, with envelopes that number and chain each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headway.core.clock import ManualClock
from headway.core.envelope import Envelope, digest, encode, subject_of
from headway.core.events import (
    AnyEvent,
    CoordinatorElected,
    Failure,
    FleetPaused,
    FleetResumed,
    JobAdmitted,
    JobAssigned,
    JobAttemptFailed,
    JobCancelRequested,
    JobCompleted,
    JobExecuting,
    JobLost,
    JobOutputStored,
    JobPreparing,
    JobQueued,
    JobUploading,
    Output,
    Prepared,
    RunAdmitted,
    RunCancelRequested,
    RunCompleted,
    RunnerDrained,
    RunnerLeft,
    RunnerLost,
    RunnerRegistered,
    RunnerResumed,
    RunPaused,
    RunResumed,
    Source,
    StepFinished,
    StepStarted,
)
from headway.core.log import Entry
from headway.core.memory import MemoryLog
from headway.core.plan import Job, Step, digest_of
from headway.core.states import Outcome

RUNNER = "local-8f3a2c1d"
OUTPUT = Output(digest=digest_of(b"hello\n"), bytes=6, records=1)


class History:
    """A log being written. Every event comes a millisecond after the one before."""

    def __init__(self, *, seed: int = 0) -> None:
        self.clock = ManualClock(seed=seed)
        self.log = MemoryLog(self.clock)
        self._heads: dict[str, tuple[int, str]] = {}
        self._projects: dict[str, str] = {}
        self._facts: dict[tuple[str, str, int], int] = {}

    @property
    def seq(self) -> int:
        """The last event's sequence."""
        return len(self.log.entries)

    def say(
        self, event: AnyEvent, *, run: str = "", job: str = "", attempt: int = 0, actor: str = "coordinator"
    ) -> int:
        """Append an event with the right envelope; returns its sequence."""
        self.clock.advance(0.001)
        n, prev = self._heads.get(run, (0, ""))
        if isinstance(event, RunAdmitted):
            self._projects[run] = event.project
        envelope = Envelope(
            id=self.clock.new_id(),
            at=self.clock.wall_us(),
            actor=actor,
            data=event,
            run=run,
            job=job,
            attempt=attempt,
            n=n + 1 if run else 0,
            prev=prev if run else "",
        )
        body = encode(envelope)
        if run:
            self._heads[run] = (n + 1, digest(body))
        subject = subject_of(envelope, self._projects.get(run, ""))
        return self.log.append_now(Entry(subject=subject, id=envelope.id, body=body, expect=self.seq))

    def fact(self, run: str, job: str, attempt: int) -> int:
        """The next number of what a runner says about an attempt."""
        key = (run, job, attempt)
        self._facts[key] = self._facts.get(key, 0) + 1
        return self._facts[key]

    # The whole service

    def elect(self) -> None:
        self.say(CoordinatorElected(coordinator="c-1", headway_version="0.1.0", host="here", pid=7))

    def register(
        self, runner: str = RUNNER, *, labels: Sequence[str] = ("linux",), slots: int = 2, replaces: Sequence[str] = ()
    ) -> None:
        name = runner.rpartition("-")[0]
        event = RunnerRegistered(
            runner=runner, name=name, labels=tuple(labels), slots=slots, replaces=tuple(replaces), pid=11, host="here"
        )
        self.say(event, actor=f"runner:{runner}")

    # A run

    def admit(
        self,
        jobs: Mapping[str, Sequence[str]],
        *,
        project: str = "shop",
        pipeline: str = "build",
        branch: str = "main",
        actor: str = "user:ada",
    ) -> str:
        """A run of these jobs, each with the names of those it depends on; returns its id."""
        run = self.clock.new_id()
        source = Source(digest=digest_of(b"tree"), bytes=100, files=3, commit="c0ffee", branch=branch, dirty=True)
        self.say(
            RunAdmitted(
                project=project,
                pipeline=pipeline,
                jobs=len(jobs),
                plan_digest=digest_of(b"plan"),
                pipeline_file="headway.yml",
                source=source,
                parameters={"level": "3"},
            ),
            run=run,
            actor=actor,
        )
        for name, depends_on in jobs.items():
            self.say(JobAdmitted(depends_on=tuple(depends_on), runs_on=("linux",), retry_count=1), run=run, job=name)
        return run

    def admit_again(self, run: str) -> int:
        """The same run admitted a second time, in other words."""
        again = RunAdmitted(project="other", pipeline="other", jobs=9, plan_digest=digest_of(b"other"))
        return self.say(again, run=run)

    def end(self, run: str, outcome: Outcome = Outcome.SUCCEEDED, *, jobs: int = 1) -> int:
        """Seal the run."""
        n, prev = self._heads[run]
        return self.say(RunCompleted(outcome=outcome, jobs=jobs, n=n + 1, prev=prev), run=run)

    # A job

    def queue(self, run: str, job: str, *, attempt: int = 1, reason: str = "ready") -> int:
        return self.say(JobQueued(reason=reason), run=run, job=job, attempt=attempt)

    def assign(self, run: str, job: str, *, attempt: int = 1, runner: str = RUNNER) -> int:
        definition = Job(name=job, steps=(Step(name="make", script="make"),), runs_on=("linux",), retry_count=1)
        event = JobAssigned(runner=runner, definition=definition, source_digest=digest_of(b"tree"), project="shop")
        return self.say(event, run=run, job=job, attempt=attempt)

    def prepare(self, run: str, job: str, *, attempt: int = 1) -> int:
        return self._runner_says(JobPreparing(fact=self.fact(run, job, attempt)), run, job, attempt)

    def execute(self, run: str, job: str, *, attempt: int = 1) -> int:
        prepared = (Prepared(what="source", duration_ms=12, bytes=100, hit=True),)
        event = JobExecuting(fact=self.fact(run, job, attempt), prepared=prepared)
        return self._runner_says(event, run, job, attempt)

    def start_step(self, run: str, job: str, *, attempt: int = 1, step: int = 0, tried: int = 1) -> int:
        event = StepStarted(fact=self.fact(run, job, attempt), step=step, name="make", shell="bash", tried=tried)
        return self._runner_says(event, run, job, attempt)

    def finish_step(
        self, run: str, job: str, *, attempt: int = 1, step: int = 0, exit_code: int = 0, tried: int = 1
    ) -> int:
        event = StepFinished(
            fact=self.fact(run, job, attempt),
            step=step,
            name="make",
            outcome=Outcome.FAILED if exit_code else Outcome.SUCCEEDED,
            exit_code=exit_code,
            duration_ms=5,
            tried=tried,
        )
        return self._runner_says(event, run, job, attempt)

    def upload(self, run: str, job: str, *, attempt: int = 1) -> int:
        return self._runner_says(JobUploading(fact=self.fact(run, job, attempt)), run, job, attempt)

    def fail_attempt(self, run: str, job: str, *, attempt: int = 1) -> int:
        failure = Failure(failure_class="caller_fixable", reason="make exited with 2", step=0)
        event = JobAttemptFailed(fact=self.fact(run, job, attempt), failure=failure, exit_code=2, output=OUTPUT)
        return self._runner_says(event, run, job, attempt)

    def lose(self, run: str, job: str, *, attempt: int = 1, runner: str = RUNNER) -> int:
        return self.say(JobLost(runner=runner, reason="silent for 15 s"), run=run, job=job, attempt=attempt)

    def complete(self, run: str, job: str, *, attempt: int = 1, outcome: Outcome = Outcome.SUCCEEDED) -> int:
        failed = outcome is Outcome.FAILED
        event = JobCompleted(
            outcome=outcome,
            fact=self.fact(run, job, attempt),
            exit_code=2 if failed else 0,
            failure=Failure(failure_class="caller_fixable", reason="make exited with 2", step=0) if failed else None,
            output=OUTPUT,
        )
        return self._runner_says(event, run, job, attempt)

    def drop(self, run: str, job: str, outcome: Outcome, *, attempt: int = 0, reason: str = "") -> int:
        """Complete a job that nobody runs."""
        return self.say(JobCompleted(outcome=outcome, reason=reason), run=run, job=job, attempt=attempt)

    # Whole stretches

    def work(self, run: str, job: str, *, attempt: int = 1, exit_code: int = 0, runner: str = RUNNER) -> None:
        """From assignment to the end of the only step."""
        self.assign(run, job, attempt=attempt, runner=runner)
        self.prepare(run, job, attempt=attempt)
        self.execute(run, job, attempt=attempt)
        self.start_step(run, job, attempt=attempt)
        self.finish_step(run, job, attempt=attempt, exit_code=exit_code)

    def pass_job(self, run: str, job: str, *, attempt: int = 1, runner: str = RUNNER) -> None:
        """A job from its queue to success."""
        if attempt == 1:
            self.queue(run, job)
        self.work(run, job, attempt=attempt, runner=runner)
        self.upload(run, job, attempt=attempt)
        self.complete(run, job, attempt=attempt)

    def pass_run(self, *, jobs: int = 1, pipeline: str = "build", project: str = "shop") -> str:
        """A run whose jobs all pass, one after the other; returns its id."""
        names = [f"job-{number}" for number in range(jobs)]
        run = self.admit(dict.fromkeys(names, ()), pipeline=pipeline, project=project)
        for name in names:
            self.pass_job(run, name)
        self.end(run, jobs=jobs)
        return run

    def _runner_says(self, event: AnyEvent, run: str, job: str, attempt: int) -> int:
        return self.say(event, run=run, job=job, attempt=attempt, actor=f"runner:{RUNNER}")


def eventful() -> History:
    """A service's day: runs that pass, fail, are retried, lost, cancelled, paused and skipped; some still go on."""
    history = History(seed=7)
    history.elect()
    history.register()
    history.register("spare-00000001", labels=("linux", "gpu"))
    history.pass_run(jobs=3)
    _retried_run(history)
    _lost_run(history)
    _cancelled_run(history)
    history.say(RunnerDrained(runner=RUNNER, reason="maintenance"), actor="user:ada")
    history.say(RunnerResumed(runner=RUNNER), actor="user:ada")
    history.register("third-00000002")
    history.say(RunnerLeft(runner="third-00000002"))
    history.admit({"build": (), "test": ("build",)}, project="other", actor="user:grace")
    return history


def _retried_run(history: History) -> None:
    retried = history.admit({"build": (), "test": ("build",)})
    history.queue(retried, "build")
    history.work(retried, "build", exit_code=2)
    history.fail_attempt(retried, "build")
    history.queue(retried, "build", attempt=2, reason="failed")
    history.pass_job(retried, "build", attempt=2)
    history.queue(retried, "test")
    history.work(retried, "test", exit_code=2)
    history.upload(retried, "test")
    history.complete(retried, "test", outcome=Outcome.FAILED)
    history.end(retried, Outcome.FAILED, jobs=2)


def _lost_run(history: History) -> None:
    lost = history.admit({"build": (), "lint": ()}, branch="side")
    history.queue(lost, "build")
    history.work(lost, "build", runner="spare-00000001")
    history.say(RunnerLost(runner="spare-00000001", reason="silent for 15 s"))
    history.lose(lost, "build", runner="spare-00000001")
    history.queue(lost, "build", attempt=2, reason="lost")
    history.upload(lost, "build")
    history.say(JobOutputStored(output=OUTPUT), run=lost, job="build", attempt=1)
    history.say(FleetPaused(reason="upgrade"), actor="user:grace")
    history.say(RunPaused(reason="hold on"), run=lost, actor="user:ada")
    history.say(FleetResumed(), actor="user:grace")
    history.say(RunResumed(), run=lost, actor="user:ada")
    history.pass_job(lost, "build", attempt=2)


def _cancelled_run(history: History) -> None:
    cancelled = history.admit({"build": (), "test": ("build",), "ship": ("test",)})
    history.queue(cancelled, "build")
    history.work(cancelled, "build")
    history.say(RunCancelRequested(reason="wrong branch"), run=cancelled, actor="user:ada")
    history.say(JobCancelRequested(reason="wrong branch", runner=RUNNER), run=cancelled, job="build", attempt=1)
    history.complete(cancelled, "build", outcome=Outcome.CANCELLED)
    history.drop(cancelled, "test", Outcome.CANCELLED, reason="wrong branch")
    history.drop(cancelled, "ship", Outcome.SKIPPED, reason="test was cancelled")
    history.end(cancelled, Outcome.CANCELLED, jobs=3)
