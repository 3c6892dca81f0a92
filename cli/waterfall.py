"""A timeline as a picture: a line per job with a letter for every state, and the critical path as a list.

Pure: a record and a width in, lines out. Every line is of its job's attempt; the bar is as long as the run, and each
of its cells has the letter of the state that filled most of it. What matters and is too short for a cell of its own
takes one from a neighbour that has several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from headway.cli.board import STATUS_AT_END, STATUSES
from headway.cli.render import STATUS_STYLE, Paint
from headway.cli.text import clean, duration, fit, pad, parse_time, width_of

LETTERS: Final = {
    "admitted": ("a", "dim"),
    "waiting_for_policy": ("w", "yellow"),
    "back-off": ("b", "dim"),
    "queued": ("q", "yellow"),
    "assigned": ("s", "blue"),
    "preparing": ("p", "magenta"),
    "executing": ("x", "green"),
    "uploading": ("u", "cyan"),
    "deploying": ("d", "blue"),
    "converging": ("c", "cyan"),
}
"""The letter of each state, and of the back-off within one, and its colour."""

WORK: Final = frozenset({"executing", "deploying", "converging"})
"""States that are shown however short they were."""
WAITING: Final = frozenset({"admitted", "waiting_for_policy", "back-off", "queued"})
SHARE_SHOWN: Final = 0.02
"""A state on the critical path is shown when it is at least so much of the run."""
_NONE: Final = -1
NAME_MOST, BAR_LEAST, BAR_MOST = 32, 10, 160
TIME_COLUMNS: Final = 7
TICK_COLUMNS: Final = 10
PARTS_MOST: Final = 15
PART_SHARE_LEAST: Final = 0.005
PHASE_MS_LEAST: Final = 10
_STEPS_MS: Final = (
    *(10**power * digit for power in range(3) for digit in (1, 2, 5)),
    *(1000 * seconds for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)),
    *(3_600_000 * hours for hours in (1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 2160, 8760, 87600)),
)


class Line:
    """An attempt of a job: its stays as (state, from, to) in microseconds since the run's admission."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stays: list[tuple[str, int, int]] = []
        self.status = ""
        self.style = ""
        self.critical_us = 0
        self.critical: set[str] = set()

    def rest(self, phase: Mapping[str, Any]) -> None:
        """A phase of the last stay; a back-off is drawn apart from the queueing that follows it."""
        if phase.get("phase") != "back-off" or phase.get("state") != "queued" or not self.stays:
            return
        state, entered, left = self.stays.pop()
        rested = min(left, entered + int(phase.get("duration_us") or 0))
        self.stays += [("back-off", entered, rested), (state, rested, left)]
        if state in self.critical:
            self.critical.add("back-off")

    @property
    def took_us(self) -> int:
        """How long it took since it stopped waiting for other jobs."""
        return sum(left - entered for state, entered, left in self.stays if state != "admitted")

    @property
    def was_queued(self) -> bool:
        """Whether it ever stopped waiting for other jobs, other than by its end."""
        return any(state != "admitted" for state, _, _ in self.stays)

    @property
    def begun(self) -> int:
        """When it stopped waiting for other jobs; one that never did stands where its waiting ended."""
        return next((entered for state, entered, _ in self.stays if state != "admitted"), self.stays[-1][2])


def waterfall(found: Mapping[str, Any], *, paint: Paint, columns: int, limit: int = 0) -> list[str]:
    """The jobs of a run as bars below a time axis; with a `limit`, at most so many, those that tell most."""
    whole = span_us(found)
    lines = lines_of(found)
    shown = sorted(most_telling(lines, limit), key=lambda line: line.begun)
    names = min(max((width_of(line.name) for line in shown), default=3), NAME_MOST, max(8, columns // 4))
    ends = max((len(line.status) for line in shown), default=0)
    cells = min(BAR_MOST, max(BAR_LEAST, columns - names - TIME_COLUMNS - ends - 8))
    head = f"  {pad('JOB', names)}  {pad(axis(whole, cells), cells)}  {'TIME':>{TIME_COLUMNS}}"
    out = [paint("dim", head)]
    for line in shown:
        mark = paint("bold", "*") if line.critical_us else " "
        bar = _painted(bar_of(line, whole, cells), paint)
        took = duration(line.took_us / 1e6) if line.was_queued else ""
        end = paint(line.style, line.status)
        out.append(f"{mark} {pad(fit(line.name, names), names)}  {bar}  {took:>{TIME_COLUMNS}}  {end}".rstrip())
    if len(shown) < len(lines):
        out.append(paint("dim", f"  {_left_out(lines, shown)}; see all with --all"))
    return [*out, "", *legend(shown, paint=paint, columns=columns)]


def span_us(found: Mapping[str, Any]) -> int:
    """How long the run took, or has been taking: the path explains all of it."""
    return sum(int(part.get("duration_us") or 0) for part in found.get("path") or ())


def lines_of(found: Mapping[str, Any]) -> list[Line]:
    """A line for every attempt of every job, in the order in which the jobs were admitted."""
    began = parse_time((found.get("run") or {}).get("admitted")) or 0.0
    ends = {(one.get("job"), one.get("attempt")): one for one in found.get("attempts") or ()}
    lines: dict[tuple[str, int], Line] = {}
    retried: set[str] = set()
    now: dict[str, int] = {}
    for one in found.get("handoffs") or ():
        job, attempt = str(one.get("job")), max(1, int(one.get("attempt") or 0))
        line = lines.setdefault((job, attempt), Line(clean(job)))
        if one.get("phase"):
            line.rest(one)
            continue
        if job not in now:
            now[job] = max(0, round(((parse_time(one.get("entered")) or began) - began) * 1e6))
        if attempt > 1:
            retried.add(job)
        entered, state = now[job], str(one.get("state"))
        now[job] = entered + int(one.get("duration_us") or 0)
        line.stays.append((state, entered, now[job]))
        line.critical_us += int(one.get("critical_us") or 0)
        if one.get("critical_us"):
            line.critical.add(state)
        line.status, line.style = _end(one, ends.get((job, attempt)) or {})
    for (job, attempt), line in lines.items():
        if job in retried:
            line.name += f" #{attempt}"
    return list(lines.values())


def _end(last: Mapping[str, Any], attempt: Mapping[str, Any]) -> tuple[str, str]:
    """How a line ends, in a word and its colour, from its last stay and its attempt."""
    state, following = str(last.get("state")), str(last.get("next") or "")
    if last.get("left") is None:
        return clean(state), "" if state in WAITING else "cyan"
    if following in STATUS_AT_END:
        return STATUS_AT_END[following], STATUS_STYLE[STATUS_AT_END[following]]
    if attempt.get("state") == "lost":
        return "lost", "red"
    return STATUS_AT_END.get(str(attempt.get("outcome")), "retry"), "red"


def most_telling(lines: list[Line], limit: int) -> list[Line]:
    """At most so many lines: those on the critical path, then those that took longest."""
    if not limit or len(lines) <= limit:
        return lines
    chosen = sorted(range(len(lines)), key=lambda at: (-lines[at].critical_us, -lines[at].took_us))[:limit]
    return [lines[at] for at in sorted(chosen)]


def _left_out(lines: list[Line], shown: list[Line]) -> str:
    kept = set(map(id, shown))
    counts = Counter(line.status for line in lines if id(line) not in kept)
    order = {status: at for at, status in enumerate(STATUSES)}
    words = sorted(counts, key=lambda status: (order.get(status, len(order)), status))
    return f"and {len(lines) - len(shown)} more: " + ", ".join(f"{counts[word]} {word}" for word in words)


def bar_of(line: Line, whole: int, cells: int) -> list[str]:
    """The state in each cell of a line's bar, "" for none."""
    size = max(1, whole) / cells
    filled: list[dict[int, float]] = [{} for _ in range(cells)]
    for index, (_, entered, left) in enumerate(line.stays):
        for at in range(_cell(entered, size, cells), _cell(left, size, cells) + 1):
            overlap = min(left, (at + 1) * size) - max(entered, at * size)
            if overlap > 0:
                filled[at][index] = overlap
    bar = [max(one, key=one.__getitem__) if one else _NONE for one in filled]
    lengths = [left - entered for _, entered, left in line.stays]
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    if bar.count(_NONE) == cells:
        bar[_cell(line.stays[order[0]][1], size, cells)] = order[0]
    for index in order:
        state = line.stays[index][0]
        on_path = state in line.critical and lengths[index] >= SHARE_SHOWN * whole
        if lengths[index] and index not in bar and (state in WORK or on_path):
            _squeeze_in(index, line, bar, size)
    return [line.stays[index][0] if index != _NONE else "" for index in bar]


def _squeeze_in(index: int, line: Line, bar: list[int], size: float) -> None:
    """Give a stay a cell near its own place, so that the order of time stays right: one of a neighbour that has
    several, or for work one of a neighbour that is none."""
    state, entered, left = line.stays[index]
    middle = _cell((entered + left) / 2, size, len(bar))
    near = [at for at in (middle, middle - 1, middle + 1) if 0 <= at < len(bar) and bar[at] != _NONE]
    near = [at for at in near if all(one < index for one in bar[:at])]
    near = [at for at in near if all(one > index for one in bar[at + 1 :] if one != _NONE)]
    spare = [at for at in near if bar.count(bar[at]) > 1]
    spare += [at for at in near if state in WORK and line.stays[bar[at]][0] not in WORK]
    if spare:
        bar[spare[0]] = index


def _cell(moment: float, size: float, cells: int) -> int:
    return min(cells - 1, max(0, int(moment / size)))


def _painted(bar: Sequence[str], paint: Paint) -> str:
    parts: list[str] = []
    begin = 0
    for at in range(1, len(bar) + 1):
        if at == len(bar) or bar[at] != bar[begin]:
            letter, style = LETTERS.get(bar[begin], ("?", "")) if bar[begin] else (" ", "")
            parts.append(paint(style if bar[begin] else "", letter * (at - begin)))
            begin = at
    return "".join(parts)


def axis(whole: int, cells: int) -> str:
    """A time axis: a stroke where each moment is, and the moment behind it."""
    whole = max(1, whole)
    step = next((one for one in _STEPS_MS if one * 1000 * cells >= TICK_COLUMNS * whole), _STEPS_MS[-1]) * 1000
    line = ""
    for at in range(cells):
        moment = at * step
        place = int(moment * cells / whole)
        label = f"|{_tick(moment // 1000)}"
        if place + len(label) > cells:
            break
        if place >= len(line):
            line = line.ljust(place) + label
    return line


def _tick(milliseconds: int) -> str:
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0"
    seconds, rest = divmod(milliseconds, 1000)
    if rest:
        return f"{milliseconds / 1000:g}s"
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    parts = []
    for unit, size in units:
        if seconds >= size:
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    return "".join(parts)


def legend(shown: Iterable[Line], *, paint: Paint, columns: int) -> list[str]:
    """What the letters mean that were used, and the mark."""
    used = {state for line in shown for state, _, _ in line.stays}
    words = [f"{paint(style, letter)} {state}" for state, (letter, style) in LETTERS.items() if state in used]
    lengths = [len(state) + 2 for state in LETTERS if state in used]
    words.append(f"{paint('bold', '*')} on the critical path")
    lines, line, room = [], "", columns
    for word, length in zip(words, [*lengths, 22], strict=True):
        if line and length + 2 > room:
            lines.append(line)
            line, room = "", columns
        line += ("  " if line else "") + word
        room -= length + 2
    return [*lines, line]


# The critical path


def critical_list(found: Mapping[str, Any], *, paint: Paint) -> list[str]:
    """The parts of the critical path in the order of time, ending with their sum; the shortest of many as one."""
    parts = _parts(found)
    total_ms = sum(ms for ms, _, _ in parts)
    kept = _longest(parts, total_ms)
    rest: list[tuple[int, str, str]] = []
    if len(kept) < len(parts):
        rest = [(total_ms - sum(ms for ms, _, _ in kept), "", f"{len(parts) - len(kept)} shorter parts")]
    wide = max(len(exact(total_ms)), 8)
    lines = [paint("bold", "critical path")]
    for ms, state, words in [*kept, *rest]:
        letter, style = LETTERS.get(state, (" ", ""))
        lines.append(f"  {exact(ms):>{wide}}  {_share(ms, total_ms):>5}  {paint(style, letter)} {words}")
    over = (found.get("run") or {}).get("completed") is not None
    lines.append(paint("bold", f"  {exact(total_ms):>{wide}}  {'the whole run' if over else 'so far'}"))
    return lines


def _longest(parts: list[tuple[int, str, str]], total_ms: int) -> list[tuple[int, str, str]]:
    """The parts worth a line each, in their order; all of them when only one would be left out."""
    long = sorted(range(len(parts)), key=lambda at: -parts[at][0])[: PARTS_MOST - 1]
    kept = sorted(at for at in long if parts[at][0] >= PART_SHARE_LEAST * total_ms)
    return [parts[at] for at in kept] if len(kept) < len(parts) - 1 else parts


def _parts(found: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    """Milliseconds, state and words of each part. They are counted between whole milliseconds since the admission, so
    that what is shown adds up as well."""
    phases = _phases(found)
    retried = {one.get("job") for one in found.get("handoffs") or () if int(one.get("attempt") or 0) > 1}
    parts, passed = [], 0
    for part in found.get("path") or ():
        until = passed + int(part.get("duration_us") or 0)
        job, state, holder = str(part.get("job")), str(part.get("state")), clean(part.get("holder"))
        attempt = int(part.get("attempt") or 0)
        name = clean(job) + (f" #{attempt}" if attempt and job in retried else "")
        words = f"{name} {clean(state).replace('_', ' ')}".strip()
        if state in LETTERS and state not in WAITING:
            words += f" on {holder}"
        elif state not in LETTERS:
            words += f" by the {holder}"
        words += phases.get((job, attempt, state), "")
        parts.append((until // 1000 - passed // 1000, state, words))
        passed = until
    return parts


def _phases(found: Mapping[str, Any]) -> dict[tuple[str, int, str], str]:
    """What took long within each state, in words."""
    told: dict[tuple[str, int, str], list[str]] = {}
    for one in found.get("handoffs") or ():
        ms = float(one.get("duration_ms") or 0)
        if one.get("phase") and ms >= PHASE_MS_LEAST and one.get("critical_us"):
            key = (str(one.get("job")), int(one.get("attempt") or 0), str(one.get("state")))
            told.setdefault(key, []).append(f"{clean(one['phase'])} {exact(round(ms))}")
    return {key: f" ({', '.join(words[:3])})" for key, words in told.items()}


def exact(milliseconds: int) -> str:
    """A length of time to the millisecond: 0.004s, 3m 02.500s."""
    minutes, rest = divmod(milliseconds, 60_000)
    if not minutes:
        return f"{rest / 1000:.3f}s"
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h {minutes:02}m " if hours else f"{minutes}m ") + f"{rest / 1000:06.3f}s"


def _share(part: int, whole: int) -> str:
    percent = 100 * part / whole if whole else 0.0
    return "<1 %" if 0 < percent < 0.5 else f"{percent:.0f} %"
