"""Limits, and where a server is said to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.core.errors import UsageError
from headway.core.room import reserve_of
from headway.core.server import Settings, load_endpoint, outside_endpoint
from headway.core.server_config import GIB, MIB, Record, config_text, limits_of


@pytest.mark.parametrize(
    ("free", "used_log", "used_output", "log", "output"),
    [
        (100 * GIB, 0, 0, 8 * GIB, 2 * GIB),
        (100 * GIB, 9 * GIB, 0, 8 * GIB, 2 * GIB),
        (0, 5 * GIB, GIB, 4_908_534_051, GIB),
        (0, 0, 0, MIB, MIB),
    ],
)
def test_limits_are_what_is_wanted_where_there_is_room(
    free: int, used_log: int, used_output: int, log: int, output: int
) -> None:
    """The server never stops below what is stored, and never is a limit 0, which it would take for none."""
    found = limits_of(Settings(), free=free, used_log=used_log, used_output=used_output)
    assert (found.log_bytes, found.output_bytes) == (log, output)
    assert found.log_bytes_hard >= max(used_log, log + reserve_of(log))
    assert found.store_bytes >= found.log_bytes_hard + found.output_bytes


@pytest.mark.parametrize("free", [64 * MIB, GIB, 4 * GIB, 11 * GIB])
def test_limits_leave_a_reserve_on_any_disk(free: int) -> None:
    """Both streams full leave a gigabyte free, or a quarter of a small disk."""
    found = limits_of(Settings(), free=free, used_log=0, used_output=0)
    assert found.promised_bytes == found.store_bytes <= free - min(GIB, free // 4)
    assert found.log_bytes > 3 * found.output_bytes


def test_a_lower_limit_does_not_lower_where_the_server_stops() -> None:
    """Runs were admitted on the strength of it; only what is promised from now on is less."""
    settings = Settings(log_max_bytes=GIB)
    found = limits_of(settings, free=100 * GIB, used_log=GIB // 2, used_output=0, log_bytes_hard=8 * GIB)
    assert (found.log_bytes, found.log_bytes_hard) == (GIB, 8 * GIB)
    assert found.promised_bytes < 4 * GIB < found.store_bytes


def test_a_record_of_an_earlier_version_says_where_the_server_stopped() -> None:
    """It knew one limit, which was both: the store it reserved is not made smaller."""
    record = Record(url="nats://127.0.0.1:20000", log_bytes=8 * GIB, output_bytes=GIB)
    limits = limits_of(Settings(log_max_bytes=MIB, output_max_bytes=MIB), free=GIB, used_log=0, used_output=0)
    assert record.limits.log_bytes_hard == 8 * GIB
    assert f"max_file: {record.limits.store_bytes}\n" in config_text(record, limits)


@pytest.mark.parametrize(
    ("url", "place", "user", "password"),
    [
        ("nats://log.example:4333", "nats://log.example:4333", "", ""),
        ("tls://me:p%40ss%2F@log.example", "tls://log.example:4222", "me", "p@ss/"),
        ("nats://a:b@[::1]:1/", "nats://[::1]:1", "a", "b"),
        ("nats://a:b@one:1, nats://two:2", "nats://one:1,nats://two:2", "a", "b"),
    ],
)
def test_an_outside_server_is_named_by_a_url(url: str, place: str, user: str, password: str) -> None:
    """User and password are part of the URL, percent-encoded where they must be."""
    found = outside_endpoint(url)
    assert (found.url, found.user, found.password) == (place, user, password)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "neither nats:// nor tls://"),
        ("log.example:4222", "neither nats:// nor tls://"),
        ("http://u:secret@h", "neither nats:// nor tls://"),
        ("nats://u:secret@", "names no host"),
        ("nats://u:secret@h:99999", "port between 1 and 65535"),
        ("nats://u:secret@h:0", "port 0"),
        ("nats://u:secret@h:1/x", "after the port"),
        ("nats://secret@h:1", "without a password"),
        ("nats://u:secret@h,nats://v:secret@i", "different users"),
    ],
)
def test_a_url_that_is_no_use_is_refused_without_repeating_it(url: str, words: str) -> None:
    """The error says what is wrong and shows no password."""
    with pytest.raises(UsageError, match=words) as caught:
        outside_endpoint(url)
    assert "secret" not in caught.value.message + caught.value.next


def test_a_record_that_was_damaged_is_no_record(tmp_path: Path) -> None:
    """Whatever lies in endpoint.json, reading it does not fail."""
    for body in (b"", b"\x00\xff", b"[]", b"{}", b'{"url":"nats://127.0.0.1:x"}', b'{"url":"nats://1.2.3.4:5"}'):
        (tmp_path / "endpoint.json").write_bytes(body)
        assert load_endpoint(tmp_path) is None, body
