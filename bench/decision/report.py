"""Writes what was measured: `results.md` and its plots. Called by `main`; nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.decision import rollouts
from bench.decision.latency_rows import RUNS as LATENCY_RUNS
from bench.decision.play import SEED, Played
from bench.decision.rows import (
    ALPHA,
    ALTERNATIVES,
    BASE,
    HYSTERESIS,
    NULLS,
    OTHERS,
    RATIOS,
    RULES,
    SPREAD,
    TRAFFIC,
    Measurements,
    Row,
)
from bench.decision.whole_rows import RUNS, WholeTrials
from serin.simulation.runs import Scenario, run_all, summarise, wald_bound

SERIN, SERIN_FIXED = "Serin", "Serin, fixed ramp"
COLOURS = {
    SERIN: "#0072b2",
    SERIN_FIXED: "#56b4e9",
    "Argo Rollouts": "#d55e00",
    "Flagger": "#009e73",
    "Kayenta": "#999999",
}
YOUNG_RUNS = 300
COLUMNS = ("scenario", "at most", SERIN, "to Wald", SERIN_FIXED, *RULES, "holds")
WHOLE_COLUMNS = ("scenario", "at most", SERIN, "Serin, steps", *RULES, "holds")
LATENCY_COLUMNS = ("scenario", "limit", "by load", "loads mixed", "holds")
FIRST_COLUMNS = (
    "requests/s",
    "good canary promoted (0.1 % errors)",
    "good canary promoted (1 % errors)",
    "20 % fail",
    "90 % fail",
)


def _lines(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _holds(row: Row) -> str:
    return {True: "yes", False: "**no**", None: ""}[row.holds]


def whole_table(rows: Iterable[Row]) -> str:
    """The rows of whole trials as a table in Markdown."""
    return _lines(
        WHOLE_COLUMNS,
        (
            (row.scenario, row.limit, row.serin, row.fixed, *(row.others.get(rule, "") for rule in RULES), _holds(row))
            for row in rows
        ),
    )


def latency_table(rows: Iterable[Row]) -> str:
    """The rows of latencies as a table in Markdown."""
    return _lines(LATENCY_COLUMNS, ((row.scenario, row.limit, row.serin, row.fixed, _holds(row)) for row in rows))


def table(rows: Iterable[Row]) -> str:
    """The rows of the test as a table in Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        holds = _holds(row)
        holds = f"{row.missed}; else {holds}" if row.missed else holds
        others = [row.others.get(rule, "") for rule in RULES]
        lines.append(
            "| " + " | ".join((row.scenario, row.limit, row.serin, row.bound, row.fixed, *others, holds)) + " |"
        )
    return "\n".join(lines)


def write(
    folder: Path,
    rows: Mapping[str, Sequence[Row]],
    measured: Measurements,
    trials: WholeTrials,
    agreement: tuple[int, float],
) -> None:
    """Write the page and the plots into `folder`; `rows` are by part (`bench.decision.__main__.PARTS`)."""
    mpl.rcParams.update({"svg.hashsalt": "serin", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False})
    mpl.rcParams["axes.spines.right"] = False
    for name, figure in (("bad", _bad(measured)), ("delay", _delay(measured)), ("false", _false(measured))):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    kept = "\n".join(
        f"| {name} | {_cost(on)} | {on.changes:.1f} | {_cost(off)} | {off.changes:.1f} |"
        for name, on, off in measured.hysteresis()
    )
    young = "\n".join(
        f"| {name} | {ramp} | " + " | ".join(f"{bad:.1f}" for bad in row) + " |" for name, ramp, row in young_epochs()
    )
    slices, worst = agreement
    difference = "less than 1e-9" if worst < 1e-9 else f"{worst:.0e}"
    text = (Path(__file__).parent / "page.md").read_text().format(
        first=_lines(FIRST_COLUMNS, trials.first()), table=table(rows["test"]), whole=whole_table(rows["whole"]),
        latency=latency_table(rows["latency"]), whole_runs=RUNS, latency_runs=LATENCY_RUNS, kept=kept,
        young=young, slices=slices, difference=difference, seed=SEED, nulls=NULLS, others=OTHERS,
        alternatives=ALTERNATIVES, down=HYSTERESIS[0], up=HYSTERESIS[1], spread=SPREAD,
    )  # fmt: skip
    (folder / "results.md").write_text(text)


def young_epochs() -> Iterator[tuple[str, str, list[float]]]:
    """Canary, ramp, and bad answers until the rollback by how long strata of a young epoch stay open."""
    for name, ratio in (("x2", 2.0), ("x5", 5.0), ("x20", 20.0), ("90 %", 90.0)):
        for ramp in ("adaptive", "fixed"):
            scenarios = [Scenario(200.0, BASE, ratio, ramp, answer_seconds=seconds) for seconds in (0.0, 5.0, 30.0)]
            costs = [summarise(s, run_all(s, YOUNG_RUNS, SEED)).mean_excess_bad for s in scenarios]
            yield name, ramp, costs


def _cost(played: Played) -> str:
    return f"{played.bad:.1f}" if played.bad else "-"


def _by_rule(measured: Measurements, rps: float, ratio: float, *, drift: bool = False) -> dict[str, Played]:
    ours = {
        SERIN: measured.serin(rps, ratio, rollouts.ADAPTIVE, drift=drift),
        SERIN_FIXED: measured.serin(rps, ratio, rollouts.FIXED, drift=drift),
    }
    return ours | {rule: measured.peer(rule, rps, ratio, drift=drift) for rule in RULES}


def _bad(measured: Measurements) -> Figure:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axes, ratio in zip(figure.subplots(1, 2, sharey=True), (2.0, 5.0), strict=True):
        traffic = TRAFFIC[1:]
        played = [_by_rule(measured, rps, ratio) for rps in traffic]
        for rule, colour in COLOURS.items():
            axes.plot(traffic, [p[rule].bad for p in played], "o-", color=colour, label=rule, markersize=4)
        bound = wald_bound(BASE, BASE * ratio, ALPHA)
        axes.axhline(bound, color="black", linestyle=":", label="Wald's bound: alpha kept, all found")
        axes.set(xscale="log", yscale="log", title=f"canary {ratio:g} times worse", xlabel="requests per second")
        axes.set_xticks(traffic, [f"{rps:g}" for rps in traffic])
    figure.axes[0].set_ylabel("excess bad answers until the rollback")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _delay(measured: Measurements) -> Figure:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axes, rps in zip(figure.subplots(1, 2, sharey=True), (20.0, 200.0), strict=True):
        played = [_by_rule(measured, rps, ratio) for ratio in RATIOS]
        for rule, colour in COLOURS.items():
            found = [(at, p[rule].delay) for at, p in enumerate(played) if p[rule].delay is not None]
            axes.plot([at for at, _ in found], [d for _, d in found], "o-", color=colour, label=rule, markersize=4)
        axes.set(yscale="log", title=f"{rps:g} requests per second", xlabel="how much worse the canary is")
        axes.set_xticks(range(len(RATIOS)), ["to 90 %" if r == 90 else f"x{r:g}" for r in RATIOS])
        axes.set_yticks([0.5, 1, 2, 5, 10, 20, 40], ["0.5", "1", "2", "5", "10", "20", "40"])
    figure.axes[0].set_ylabel("median minutes to the decision")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _false(measured: Measurements) -> Figure:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axes, drift in zip(figure.subplots(1, 2, sharey=True), (False, True), strict=True):
        played = [_by_rule(measured, rps, 1.0, drift=drift) for rps in TRAFFIC]
        for number, (rule, colour) in enumerate(COLOURS.items()):
            places = [at + (number - 2) * 0.16 for at in range(len(TRAFFIC))]
            axes.bar(places, [p[rule].p for p in played], width=0.15, color=colour, label=rule)
        axes.axhline(ALPHA, color="black", linestyle=":", label="promised: alpha")
        title = "base rate drifts from 1 to 8 %" if drift else "base rate 1 %"
        axes.set(yscale="symlog", ylim=(0, 1.05), title=title, xlabel="requests per second")
        axes.set_yscale("symlog", linthresh=0.01)
        axes.set_yticks([0, 0.01, 0.1, 1], ["0", "0.01", "0.1", "1"])
        axes.set_xticks(range(len(TRAFFIC)), [f"{rps:g}" for rps in TRAFFIC])
    figure.axes[0].set_ylabel("identical canaries rolled back")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    return figure
