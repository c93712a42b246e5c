"""Which series show the same counter, from those labels alone that tell counters apart. Pure.

Called by `serin.metric_sources.intervals` and `queries`. The labels of the model server's own series are known, so of
these only the known ones are decoded. All labels are decoded where they are needed: of users' own series, of federated
ones, and where two series show the same counter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
from msgspec.structs import astuple

from serin.metric_sources.counter_growth import Labels, Row
from serin.metric_sources.counters import OWN_LABELS, POD, PROCESS, Counter, Own, Process, bound_text
from serin.metric_sources.promql import name_of
from serin.metric_sources.response import UNREADABLE, Sent, SentValues, labels_of, samples_of, unreadable
from serin.settings import Settings

FEDERATED_BY = "federated_by"
"""Given here to series that a federating server has scraped under its own labels."""
ALWAYS_SCRAPED = frozenset({"__name__", "job", PROCESS, POD, "prometheus", FEDERATED_BY})
"""Labels that scraping gives, whatever the metric; so are all names that end with `replica`."""
USUALLY_SCRAPED = frozenset({"container", "endpoint", "service", "node", "monitor", "cluster", "receive", "tenant_id"})
"""Labels that scraping gives to pods; a user's own metric may have such a label of its own."""
_REPLICA = ("replica", "replica_", "replica__")
_EXPORTED = "exported_"
_FEDERATED = f"{_EXPORTED}{PROCESS}"
_NAME = "__name__"

Place = tuple[str, str, str]
"""What a series says about whose requests it counts: the label that names the revision, namespace, and deployment."""
CounterKey = tuple[str, str, tuple[Any, ...]]
"""Equal for the series of one counter: its process, then what separates it from others of the process.

That is the values of its own labels where these are known, and `Own` where they are not."""


class Shown(msgspec.Struct, gc=False):
    """A series as it was sent, and the labels of it that are known by name."""

    known: tuple[str, ...]
    """See `Identities.known`."""
    labels: Sent
    values: SentValues
    others: list[Shown] | None = None
    """Further series that show the same counter; None if there is none."""

    @property
    def rows(self) -> list[Row]:
        """The series of the counter, with all labels and samples decoded; those without samples are left out."""
        rows = (Row(labels_of(each.labels), samples_of(each.values)) for each in (self, *(self.others or ())))
        return [row for row in rows if row.samples]


class Identities:
    """Finds the counter of each series of one family.

    Args:
        selector: of the family.
        label: the label that names the revision.
        settings: names of labels, and the prefix of the model server's series.
        by: further labels whose values are needed.
    """

    def __init__(self, selector: str, label: str, settings: Settings, by: Iterable[str] = ()) -> None:
        s = settings
        self._name = name_of(selector)
        self._namespace = s.namespace_label
        self._always = (ALWAYS_SCRAPED | {s.namespace_label, s.deployment_label, s.engine_revision_label}) - {label}
        self._own: tuple[str, ...] | None = None
        own = tuple(dict.fromkeys((s.revision_label, s.epoch_label, *OWN_LABELS)))
        if selector.startswith(s.model_server_metrics):
            self._own = own
        self._pods = self._own is not None or selector.startswith(s.engine_metrics)
        place = (label, s.namespace_label, s.deployment_label)
        self.names = tuple(dict.fromkeys((*own, POD, PROCESS, *place, _FEDERATED, _NAME, *by)))
        """The labels that are decoded, the counter's own first."""
        fields = [(f"label_{number}", str, "") for number in range(len(self.names))]
        renamed = {field[0]: name for field, name in zip(fields, self.names, strict=True)}
        self._decode = msgspec.json.Decoder(msgspec.defstruct("Known", fields, rename=renamed, gc=False)).decode
        self._size = len(own)
        self._at = {name: number for number, name in enumerate(self.names)}
        self._bound = self._at["le"]
        self.place: Callable[[tuple[str, ...]], Place] = itemgetter(*(self._at[name] for name in place))
        """The place of a series, from the values of `names`."""

    def index(self, name: str) -> int:
        """The place of a label in `names`."""
        return self._at[name]

    def found(self, series: Iterable[tuple[Sent, SentValues]]) -> dict[CounterKey, Shown]:
        """The series of each counter; those of another name, which were not asked for, are left out.

        Raises:
            MetricsError: the labels of a series cannot be parsed.
        """
        pod_at, federated, named = (self._at[name] for name in (POD, _FEDERATED, _NAME))
        namespace, size, plain = self._at[self._namespace], self._size, self._own is not None
        found: dict[CounterKey, Shown] = {}
        podless: list[Shown] = []
        for sent, values in series:
            known, labels = self.known(sent), sent
            if known[named] not in ("", self._name):
                continue
            if known[federated]:
                labels = _original(labels_of(sent))
                known = self.known(labels)
            shown = Shown(known, labels, values)
            if not (pod := known[pod_at]):
                podless.append(shown)
                continue
            key = (known[namespace], pod, known[:size] if plain else self.own(labels_of(labels)))
            if (first := found.setdefault(key, shown)) is not shown:
                _join(first, shown)
        if podless:
            pods = self._pods_at(found.values())
            for shown in podless:
                instance = shown.known[self._at[PROCESS]]
                own = shown.known[:size] if plain and instance else self.own(labels_of(shown.labels))
                first = found.setdefault((*_process_at(instance, pods), own), shown)
                if first is not shown:
                    _join(first, shown)
        return found

    def known(self, sent: Sent) -> tuple[str, ...]:
        """The values of `names`; an absent label is empty, as in Prometheus, and a bound has one spelling.

        Raises:
            MetricsError: the labels cannot be parsed.
        """
        try:
            if isinstance(sent, msgspec.Raw):
                known = astuple(self._decode(sent))
            else:
                known = tuple([sent.get(name, "") for name in self.names])
            if bound := known[self._bound]:
                known = (*known[: self._bound], bound_text(bound), *known[self._bound + 1 :])
        except UNREADABLE as error:
            raise unreadable(sent) from error
        return known

    def _pods_at(self, found: Iterable[Shown]) -> dict[str, set[Process]]:
        """The pods of these series, by their address."""
        pods: dict[str, set[Process]] = {}
        namespace, pod, instance = (self._at[name] for name in (self._namespace, POD, PROCESS))
        for first in found:
            for shown in (first, *(first.others or ())):
                known = shown.known
                pods.setdefault(known[instance], set()).add(Process(known[namespace], known[pod]))
        return pods

    def counters(self, key: CounterKey, shown: Shown) -> list[Counter]:
        """The counters that have this key, with all labels and samples of their series."""
        process, rows = Process(key[0], key[1]), shown.rows
        if len(rows) < 2:
            return [Counter(process, self.own(row.labels), [row]) for row in rows]
        merged = _merged(rows)
        if self._pods or len({self._source(row.labels) for row in merged}) == len(merged):
            merged.sort(key=_preference)
            return [Counter(process, self.own(merged[0].labels), merged)]
        # One source shows it several times, so a label that looks like one of scraping is its own.
        separate: dict[Own, Counter] = {}
        for row in merged:
            own = self.own(row.labels, usually=False)
            separate.setdefault(own, Counter(process, own, [])).rows.append(row)
        return list(separate.values())

    def own(self, labels: Labels, *, usually: bool = True) -> Own:
        """The labels that separate a counter from others of its process.

        Args:
            labels: of a series.
            usually: whether labels that scraping usually gives are taken for such.
        """
        names: Iterable[str]
        if not (POD in labels or PROCESS in labels):
            names = sorted(labels)  # not scraped from a process, so nothing says which labels it was given
        elif self._own is not None:
            names = self._own
        else:
            dropped = self._always | USUALLY_SCRAPED if usually else self._always
            names = sorted(name for name in labels if name not in dropped and not name.endswith(_REPLICA))
        return tuple(
            [(name, bound_text(text) if name == "le" else text) for name in names if (text := labels.get(name))]
        )

    def own_names(self, key: CounterKey) -> tuple[str, ...]:
        """The names of the labels that `own` has for the only series with this key."""
        own = key[2]
        if own and isinstance(own[0], tuple):
            return tuple([name for name, _ in own])
        return tuple([name for name, text in zip(self.names, own, strict=False) if text])

    def _source(self, labels: Labels) -> tuple[str, ...]:
        """What the same series of another job or another Prometheus differs in."""
        return tuple(
            f"{name}={text}" for name, text in sorted(labels.items()) if name in self._always or name.endswith(_REPLICA)
        )


def _join(first: Shown, shown: Shown) -> None:
    """Add a series to the first one of the same counter."""
    if first.others is None:
        first.others = []
    first.others.append(shown)


def _process_at(instance: str, pods: Mapping[str, set[Process]]) -> Process:
    """The process at an address, where no label names its pod."""
    known = pods.get(instance, ())
    # An address that two pods have had says nothing about which of them this is.
    return next(iter(known)) if len(known) == 1 else Process("", instance)


def _preference(row: Row) -> tuple[bool, int, list[tuple[str, str]]]:
    """Scraped with its pod's name before without, then with fewer labels before more; then any fixed order."""
    return (POD not in row.labels, len(row.labels), sorted(row.labels.items()))


def _merged(rows: Sequence[Row]) -> list[Row]:
    """The rows, with those of the same series merged."""
    by_series: dict[frozenset[tuple[str, str]], Row] = {}
    for row in rows:
        known = by_series.get(row.series)
        samples = row.samples if known is None else sorted({*known.samples, *row.samples})
        by_series[row.series] = Row(row.labels, samples)
    return list(by_series.values())


def _original(labels: Labels) -> Labels:
    """The original labels, if a federating server has given the series its own `instance` and `job`."""
    if _FEDERATED not in labels:
        return labels
    original = {name.removeprefix(_EXPORTED): text for name, text in labels.items() if name.startswith(_EXPORTED)}
    kept = {name: text for name, text in labels.items() if not name.startswith(_EXPORTED) and name not in original}
    return kept | original | {FEDERATED_BY: labels.get(PROCESS, "")}
