"""Limits, and where a server is said to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.core.errors import UsageError
from headway.core.server import Settings, load_endpoint, outside_endpoint
from headway.core.server_config import GIB, MIB, limits_of


@pytest.mark.parametrize(
    ("free", "used_log", "used_output", "log", "output"),
    [
        (100 * GIB, 0, 0, 8 * GIB, 2 * GIB),
        (100 * GIB, 9 * GIB, 0, 9 * GIB, 2 * GIB),
        (0, 5 * GIB, GIB, 5 * GIB, GIB),
        (0, 0, 0, MIB, MIB),
    ],
)
def test_limits_are_what_is_wanted_where_there_is_room(
    free: int, used_log: int, used_output: int, log: int, output: int
) -> None:
    """Never below what is stored, and never nothing, which a server would take for no limit."""
    found = limits_of(Settings(), free=free, used_log=used_log, used_output=used_output)
    assert (found.log_bytes, found.output_bytes) == (log, output)


@pytest.mark.parametrize("free", [64 * MIB, GIB, 4 * GIB, 11 * GIB])
def test_limits_leave_a_reserve_on_any_disk(free: int) -> None:
    """Both streams full leave a gigabyte free, or a quarter of a small disk."""
    found = limits_of(Settings(), free=free, used_log=0, used_output=0)
    assert found.store_bytes <= free - min(GIB, free // 4)
    assert found.log_bytes > 3 * found.output_bytes


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
