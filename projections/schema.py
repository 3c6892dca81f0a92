"""The tables as SQL.

Tables are disposable: the log is the truth. There are no migrations: a store whose version is another one is dropped
and the log folded again. The version follows from this text, and from `FOLD`, which is raised by whoever changes what
the rows say.

Times are microseconds since 1970 UTC by the log's clock. Lists and structures are JSON text.
"""

from __future__ import annotations

import zlib
from typing import Final

FOLD: Final = 1

TABLES: Final = """
create table meta (
    one integer primary key check (one = 1),
    schema_version integer not null,
    position integer not null,
    logged integer not null,
    logged_last integer not null,
    steps_back integer not null, step_back_us integer not null, step_back_seq integer not null
) strict;

create table events (
    seq integer primary key,
    run text not null,
    n integer not null,
    type text not null,
    job text not null,
    attempt integer not null,
    logged integer not null,
    time integer not null,
    at integer not null,
    actor text not null,
    body blob not null
) strict;

create table runs (
    seq integer primary key,
    run text not null unique,
    project text not null, pipeline text not null, branch text not null, "commit" text not null,
    dirty integer not null, actor text not null, "trigger" text not null, parameters text not null,
    pipeline_file text not null, pipeline_digest text not null, plan_digest text not null, source_digest text not null,
    config_digest text not null, headway_version text not null, "only" text not null,
    admitted integer not null, started integer, completed integer, seq_completed integer,
    n integer not null,
    status text not null, status_paused text not null, outcome text, jobs integer not null,
    pending integer not null, retry integer not null, running integer not null, success integer not null,
    failed integer not null, cancelled integer not null, skipped integer not null,
    paused_since integer, paused_by text, paused_reason text,
    cancelled_by text, cancel_reason text
) strict;

create table jobs (
    run text not null, job text not null, seq integer not null,
    depends_on text not null, runs_on text not null, executor text not null, retry_count integer not null,
    concurrency_group text not null, concurrency_limit integer not null,
    state text not null, status text not null, outcome text, attempt integer not null, runner text,
    fact integer not null, held integer not null,
    entered integer not null, seq_entered integer not null, holder text not null, cause text not null,
    start_after integer not null, rest_us integer not null,
    queued integer, started integer, completed integer,
    exit_code integer, reason text not null, failure text, output text,
    cancelled_by text, cancel_reason text,
    primary key (run, job)
) strict, without rowid;

create table attempts (
    run text not null, job text not null, attempt integer not null, runner text not null,
    state text not null, outcome text, reason text not null,
    assigned integer not null, preparing integer, started integer, uploading integer, ended integer,
    exit_code integer, failure text, prepared text not null,
    output text, output_bytes integer not null, output_truncated integer not null, output_missing text not null,
    skew_us integer,
    primary key (run, job, attempt)
) strict, without rowid;

create table timeline (
    id integer primary key,
    run integer not null, job text not null, attempt integer not null, state text not null, phase text not null,
    seq integer not null, entered integer not null, seq_left integer not null, "left" integer not null,
    holder text not null, cause text not null, next text not null, labels text not null
) strict;

create table names (
    id integer primary key,
    name text not null unique
) strict;

create table chunks (
    chunk integer primary key,
    first_left integer not null, last_left integer not null, handoffs integer not null
) strict;

create table samples (
    chunk integer not null, "column" text not null, body blob not null,
    primary key (chunk, "column")
) strict, without rowid;

create table steps (
    run text not null, job text not null, attempt integer not null, step integer not null,
    name text not null, shell text not null, tried integer not null,
    outcome text, exit_code integer, signal text not null, reason text not null,
    started integer not null, ended integer, duration_ms integer,
    primary key (run, job, attempt, step)
) strict, without rowid;

create table runners (
    runner text primary key, seq integer not null,
    name text not null, labels text not null, slots integer not null, executors text not null,
    host text not null, platform text not null, pid integer not null, headway_version text not null,
    registered integer not null,
    state text not null, reason text not null, changed integer not null
) strict, without rowid;

create table fleet (
    one integer primary key check (one = 1),
    paused_since integer, paused_by text, paused_reason text
) strict;

create table coordinator (
    one integer primary key check (one = 1),
    coordinator text not null, elected integer not null, headway_version text not null, host text not null,
    pid integer not null, checkpoint text not null, checkpoint_seq integer not null
) strict;
"""

INDEXES: Final = """
create index events_of_run on events (run);
create index runs_by_status on runs (status);
create index runs_by_pipeline on runs (pipeline);
create index runs_by_project on runs (project);
create index runs_by_end on runs (substr(run, -6));
create index runs_by_admitted on runs (admitted);
create index runs_by_end_of_run on runs (seq_completed, seq);
create index jobs_by_status on jobs (status, seq);
create index jobs_by_seq on jobs (seq);
create index jobs_by_name on jobs (job, seq);
create index timeline_of_job on timeline (run, job);
"""

SCHEMA_VERSION: Final = zlib.crc32(f"{FOLD}{TABLES}{INDEXES}".encode())
