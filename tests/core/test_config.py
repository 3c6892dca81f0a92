"""The configuration: where it comes from, what wins, and how a wrong value is answered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headway.core.config import KEYS, Config, config_path, find_home, load
from headway.core.diagnostics import InvalidFile
from headway.core.errors import UsageError


def written(home: Path, text: str) -> Path:
    """A home with this configuration file."""
    config_path(home).write_text(text)
    return home


def refused(home: Path, text: str) -> list[str]:
    """What is wrong with a configuration file, a line each."""
    with pytest.raises(InvalidFile) as caught:
        load(written(home, text), {})
    return [f"{one.line}:{one.column} {one.code} {one.message} | {one.suggestion}" for one in caught.value.diagnostics]


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    """A fresh machine needs no configuration, and every default says that it is one."""
    config = load(tmp_path, {})
    assert config == Config(
        home=str(tmp_path),
        slots=len(os.sched_getaffinity(0)),
        labels=(),
        idle_exit_seconds=300,
        log_max_bytes=8 * 1024**3,
        output_max_bytes=2 * 1024**3,
        blobs=str(tmp_path / "blobs"),
        nats_url="",
        attempt_losses_max=3,
        retry_backoff_seconds=5.0,
        origins=dict.fromkeys(KEYS, "default"),
    )


def test_an_empty_file_is_no_file(tmp_path: Path) -> None:
    """A file with all lines commented out says nothing."""
    before = load(tmp_path, {})
    assert load(written(tmp_path, "# slots: 4\n"), {}) == before


def test_every_key_is_read_from_the_file(tmp_path: Path) -> None:
    """Sizes have units, durations too, and a folder that is not absolute is below the home."""
    text = """\
slots: 3
labels: [linux, 3.10]
idle_exit_seconds: 1h30m
log_max_bytes: 512MiB
output_max_bytes: 1GB
blobs: big/blobs
nats_url: nats://me:secret@example.org:4222
attempt_losses_max: 5
retry_backoff_seconds: 0.25
"""
    config = load(written(tmp_path, text), {})
    assert [getattr(config, key) for key in KEYS] == [
        3,
        ("linux", "3.10"),
        5400,
        512 * 1024**2,
        10**9,
        str(tmp_path / "big/blobs"),
        "nats://me:secret@example.org:4222",
        5,
        0.25,
    ]
    assert set(config.origins.values()) == {"file"}


def test_the_nearer_source_wins_and_is_known(tmp_path: Path) -> None:
    """Flag over environment over file over default, key by key."""
    home = written(tmp_path, "slots: 1\nlabels: [file]\nidle_exit_seconds: 10\n")
    environ = {"HEADWAY_SLOTS": "2", "HEADWAY_LABELS": "one, two", "HEADWAY_NATS_URL": "", "HEADWAY_RUN_ID": "x"}
    config = load(home, environ, flags={"slots": "3"})
    assert (config.slots, config.labels, config.idle_exit_seconds) == (3, ("one", "two"), 10)
    origins = {key: config.origins[key] for key in ("slots", "labels", "idle_exit_seconds", "nats_url")}
    assert origins == {"slots": "flag", "labels": "environment", "idle_exit_seconds": "file", "nats_url": "default"}


def test_the_digest_names_the_effective_values(tmp_path: Path) -> None:
    """Where a value came from does not matter to it, the value does."""
    digest = load(written(tmp_path, "slots: 2\n"), {}).digest
    assert digest == load(written(tmp_path, ""), {"HEADWAY_SLOTS": "2"}).digest
    assert digest != load(tmp_path, {"HEADWAY_SLOTS": "3"}).digest
    assert digest.startswith("sha256:")


@pytest.mark.parametrize(("text", "shown"), [("", 5), ("0", 0), ("0.300", 0.3), ("7s", 7), ("120", 120)])
def test_a_back_off_is_seconds_and_parts_of_them(tmp_path: Path, text: str, shown: float) -> None:
    """0 turns it off, and what is whole is shown as whole."""
    config = load(tmp_path, {"HEADWAY_RETRY_BACKOFF_SECONDS": text})
    assert config.retry_backoff_seconds == shown
    (setting,) = (one for one in config.settings() if one.key == "retry_backoff_seconds")
    assert repr(setting.value) == repr(shown)


def test_what_is_shown_has_no_password(tmp_path: Path) -> None:
    """`headway config show` prints each key once, and an address without its credentials."""
    config = load(tmp_path, {"HEADWAY_NATS_URL": "nats://me:se@cret@example.org:4222", "HEADWAY_LABELS": "a"})
    shown = {setting.key: (setting.value, setting.origin) for setting in config.settings()}
    assert list(shown) == list(KEYS)
    assert shown["nats_url"] == ("nats://…@example.org:4222", "environment")
    assert shown["labels"] == (["a"], "environment")


TWICE = "is here a second time; the first is in line 1 | keep one of them"
NO_LABEL = "cannot be a label: a label has no blanks and no commas | write a list: `[linux, arm64]`"
DURATION = "write whole seconds, or `90s`, `10m`, `1h30m`"
SIZE = "write a number of bytes, or `512MiB`, `8GiB`"
SECONDS = "must be a number of seconds"
BACKOFF = "write seconds, such as `5` or `0.5`; 0 for no back-off"
ADDRESS = "must be the address of a NATS server | write it as `nats://host:4222`"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("slot: 2", "1:1 HW111 the configuration has no key `slot` | did you mean `slots`?"),
        ("slots: 0", "1:8 HW118 `slots` must be from 1 to 1,024 | "),
        ("slots: many", "1:8 HW114 `slots` must be a whole number, not the text `many` | "),
        ("slots: 1\nslots: 2", f"2:1 HW105 the key `slots` {TWICE}"),
        ("labels: a b", f"1:9 HW116 `a b` {NO_LABEL}"),
        (
            "idle_exit_seconds: soon",
            f"1:20 HW117 `idle_exit_seconds` must be a duration, not the text `soon` | {DURATION}",
        ),
        ("log_max_bytes: 8 gigs", f"1:16 HW114 `log_max_bytes` must be a size, not the text `8 gigs` | {SIZE}"),
        ("log_max_bytes: 1", "1:16 HW118 `log_max_bytes` must be from 16 MiB to 1 EiB | "),
        ("blobs: ''", "1:8 HW120 `blobs` must name a folder | "),
        ("nats_url: http://x", f"1:11 HW119 `nats_url` {ADDRESS}"),
        ("nats_url: 'nats://x:port'", f"1:11 HW119 `nats_url` {ADDRESS}"),
        ("retry_backoff_seconds: 1m", f"1:24 HW114 `retry_backoff_seconds` {SECONDS}, not the text `1m` | {BACKOFF}"),
        ("retry_backoff_seconds: -1", f"1:24 HW114 `retry_backoff_seconds` {SECONDS}, not the number `-1` | {BACKOFF}"),
        ("retry_backoff_seconds: 121", "1:24 HW118 `retry_backoff_seconds` must be from 0 to 120 seconds | "),
        ("- slots", "1:1 HW114 the configuration must be a mapping, not a list | "),
        ("slots: [", "1:9 HW102 this is not YAML: did not find expected node content, while parsing a flow node | "),
    ],
)
def test_a_wrong_file_is_answered_with_place_and_remedy(tmp_path: Path, text: str, expected: str) -> None:
    """The file is read as strictly as a pipeline."""
    assert refused(tmp_path, text) == [expected]


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Three mistakes, one message."""
    found = refused(tmp_path, "slots: x\nzz: 1\nblobs: [a]\n")
    assert [line.split(" ")[:2] for line in found] == [["1:8", "HW114"], ["2:1", "HW111"], ["3:8", "HW114"]]


@pytest.mark.parametrize(
    ("environ", "flags", "message"),
    [
        ({"HEADWAY_SLOTS": "two"}, {}, "HEADWAY_SLOTS: `slots` must be a whole number, not the text `two`"),
        ({}, {"log_max_bytes": "1"}, "--log-max-bytes: `log_max_bytes` must be from 16 MiB to 1 EiB"),
    ],
)
def test_a_wrong_variable_or_flag_is_named(
    tmp_path: Path, environ: dict[str, str], flags: dict[str, str], message: str
) -> None:
    """The error says which variable or flag is meant."""
    with pytest.raises(UsageError) as caught:
        load(tmp_path, environ, flags=flags)
    assert caught.value.message == message
    assert caught.value.next


def test_a_file_that_cannot_be_read_is_no_default(tmp_path: Path) -> None:
    """A directory in its place, or a link to nothing, is an error and not silence."""
    (tmp_path / "a" / "config.yml").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.yml").symlink_to("nowhere")
    with pytest.raises(UsageError, match="is a directory, not a configuration file"):
        load(tmp_path / "a", {})
    with pytest.raises(UsageError, match="there is no configuration file"):
        load(tmp_path / "b", {})


@pytest.mark.parametrize(
    ("environ", "home"),
    [
        ({"HEADWAY_HOME": "/srv/headway", "XDG_STATE_HOME": "/x"}, "/srv/headway"),
        ({"HEADWAY_HOME": "", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/headway"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/headway"),
        ({"HOME": "/h"}, "/h/.local/state/headway"),
        ({"HEADWAY_HOME": "here"}, f"{Path.cwd()}/here"),
    ],
)
def test_where_the_state_is_kept(environ: dict[str, str], home: str) -> None:
    """$HEADWAY_HOME, else the XDG state directory, else its usual place."""
    assert find_home(environ) == home
