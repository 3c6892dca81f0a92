"""The events as a promise: what was written once can be read for ever, so their shape changes only on purpose."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from headway.core import events
from headway.core.envelope import FORMAT, Envelope, decode, encode
from headway.core.events import TO_RUNNER, AnyEvent, type_of
from headway.core.states import Outcome

SCHEMA = Path(__file__).with_name("events.schema.json")
ALL: tuple[type[msgspec.Struct], ...] = get_args(AnyEvent)
RARELY = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

ADVICE = """\
The shape of the events has changed. Logs that were written before must read as they did:
  - a new field needs a default, and means nothing when it is left out;
  - any other change is a new event type; the old one moves to UPCASTS in core/envelope.py;
  - a new event type is fine.
When the change is one of these, write the schema again:
  python -m tests.core.test_events > tests/core/events.schema.json"""


def schema() -> dict[str, Any]:
    """The JSON schema of everything that may be in an event."""
    (_,), components = msgspec.json.schema_components([AnyEvent], ref_template="#/{name}")
    for one in components.values():
        one.pop("description", None)  # words may be improved
    found: dict[str, Any] = json.loads(json.dumps(dict(sorted(components.items()))))
    return found


def compatible(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What of a recorded schema the present one no longer promises."""
    broken = []
    for name, was in old.items():
        now = new.get(name)
        if now is None:
            broken.append(f"{name} is gone")
            continue
        for field, shape in was.get("properties", {}).items():
            if now.get("properties", {}).get(field) != shape:
                broken.append(f"{name}.{field} is not what it was")
        added = set(now.get("required", ())) - set(was.get("required", ()))
        broken += [f"{name}.{field} has no default" for field in sorted(added)]
        gone = set(was.get("enum", ())) - set(now.get("enum", ()))
        broken += [f"{name} lost {value}" for value in sorted(gone)]
    return broken


def test_the_shape_of_the_events_is_the_recorded_one() -> None:
    """Nobody changes an event by accident."""
    assert schema() == json.loads(SCHEMA.read_text()), ADVICE


def test_no_promise_of_the_recorded_shape_is_broken() -> None:
    """A field that was written stays readable, and nothing is asked for that was not written."""
    assert compatible(json.loads(SCHEMA.read_text()), schema()) == []


@pytest.mark.parametrize("change", ["gone", "other type", "new required field", "enum"])
def test_a_broken_promise_is_noticed(change: str) -> None:
    """The comparison itself sees each kind of break."""
    old, new = schema(), schema()
    match change:
        case "gone":
            del new["JobQueued"]
        case "other type":
            new["JobQueued"]["properties"]["reason"]["type"] = "integer"
        case "new required field":
            new["JobQueued"]["required"].append("why")
        case "enum":
            new["Outcome"]["enum"].remove("skipped")
    assert len(compatible(old, new)) == 1


TEXTS = some.text(some.characters(codec="utf-8"), max_size=20)
NUMBERS = some.integers(-(2**63), 2**63 - 1)


def values(kind: Any) -> some.SearchStrategy[Any]:
    """Any value of a type: texts are all that JSON can carry, numbers all that a table can hold."""
    plain: dict[Any, some.SearchStrategy[Any]] = {
        str: TEXTS,
        int: NUMBERS,
        bool: some.booleans(),
        type(None): some.none(),
    }
    if kind in plain:
        return plain[kind]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return some.builds(
            kind, **{name: values(hint) for name, hint in get_type_hints(kind).items() if name[0] != "_"}
        )
    if isinstance(kind, type) and issubclass(kind, Enum):
        return some.sampled_from(list(kind))
    inner = [values(one) for one in get_args(kind) if one is not ...]
    if get_origin(kind) is tuple:
        return some.lists(inner[0], max_size=3).map(tuple)
    if get_origin(kind) is dict:
        return some.dictionaries(inner[0], inner[1], max_size=3)
    return some.one_of(inner)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_what_is_written_is_what_is_read(kind: type[AnyEvent]) -> None:
    """Every event of every type comes back from the log as it was said."""

    @RARELY
    @given(values(kind))
    def comes_back(event: AnyEvent) -> None:
        envelope = Envelope(
            id="r1:1", at=1, actor="user:é", data=event, run="r1", job="build", attempt=2, n=3, prev="x"
        )
        body = encode(envelope)
        assert decode(body) == envelope
        assert encode(decode(body)) == body

    comes_back()


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_fields_of_tomorrow_are_passed_over(kind: type[AnyEvent]) -> None:
    """A newer Headway may add fields with a default, to the event and to what surrounds it."""

    @RARELY
    @given(values(kind))
    def reads(event: AnyEvent) -> None:
        envelope = Envelope(id="r1:1", at=1, actor="t", data=event)
        raw = json.loads(encode(envelope))
        raw["weather"] = {"type": "sunny"}
        raw["data"]["weather"] = [1, None]
        assert decode(json.dumps(raw).encode()) == envelope

    reads()


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_a_field_that_is_left_out_has_its_default(kind: type[AnyEvent]) -> None:
    """Old events did not know it: only what was there from the beginning is asked for."""
    required = {field.name: field for field in msgspec.structs.fields(kind) if field.required}
    raw = {
        "type": kind.__struct_config__.tag,
        **{field.encode_name: EXAMPLES[name] for name, field in required.items()},
    }
    event = decode(msgspec.json.encode({"id": "a", "at": 1, "actor": "t", "data": raw})).data
    assert type(event) is kind
    for field in msgspec.structs.fields(kind):
        if not field.required and field.default is not msgspec.NODEFAULT:
            assert getattr(event, field.name) == field.default


EXAMPLES: dict[str, Any] = {
    "project": "shop",
    "pipeline": "ci",
    "plan_digest": "sha256:0",
    "jobs": 1,
    "outcome": Outcome.FAILED,
    "runner": "a-00000001",
    "definition": {"name": "build"},
    "fact": 1,
    "failure": {"class": "transient", "reason": "x"},
    "reason": "x",
    "step": 0,
    "name": "x",
    "shell": "sh",
    "labels": [],
    "slots": 1,
    "coordinator": "c1",
    "checkpoint": "",
    "checkpoint_seq": 0,
}
"""What every event must have said from the beginning. A name that is missing here is a field without a default."""


def test_every_event_of_the_module_is_in_the_union() -> None:
    """An event that is not in it could be written and never read."""
    declared = {
        one
        for one in vars(events).values()
        if isinstance(one, type) and issubclass(one, events.Event) and one is not events.Event
    }
    assert declared == set(ALL)
    assert len({one.__struct_config__.tag for one in ALL}) == len(ALL)
    assert type_of(events.JobQueued()) == "job.queued"


def test_what_a_runner_reads_names_the_runner() -> None:
    """These events choose their subject by it."""
    assert all("runner" in kind.__struct_fields__ for kind in TO_RUNNER)


def test_a_failures_class_has_its_own_word_on_the_wire() -> None:
    """`class` is a word that Python keeps for itself."""
    failure = events.Failure(failure_class="transient", reason="x")
    assert msgspec.to_builtins(failure) == {"class": "transient", "reason": "x"}
    assert FORMAT == 1


if __name__ == "__main__":
    import sys

    sys.stdout.write(json.dumps(schema(), indent=1) + "\n")
