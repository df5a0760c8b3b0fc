"""Results → a short table for a terminal, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jachai.core.finding import Nodule, ScanResult, Verdict
from jachai.report import wording
from jachai.report.wording import how_sure, where

STYLES = {
    Verdict.TAMPERED: "bold red",
    Verdict.NO_SIGN: "green",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.UNREADABLE: "bold",
}
NO_TERMINAL_COLUMNS = 200
"""Width where the output is a file or a pipe: lines are not broken for a screen that is not there."""


def console(*, stderr: bool = False) -> Console:
    """A terminal as wide as it is; a file or pipe is wide."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=NO_TERMINAL_COLUMNS)


def printable(text: str) -> str:
    """Text of a file name made harmless for a terminal: control characters and lone surrogates become '?'."""
    return "".join(c if c.isprintable() else "?" for c in text)


def results_table(results: Sequence[ScanResult]) -> Table:
    """One row per result: which, verdict, score, where, how sure."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("scan", "verdict", "score", "where", "how sure"):
        table.add_column(title, overflow="fold")
    for result in results:
        table.add_row(
            Text(printable(result.input)),
            Text(result.verdict.value, style=STYLES[result.verdict]),
            Text("–" if result.score is None else f"{result.score:.2f}"),
            Text(where(result.findings) if result.verdict is Verdict.TAMPERED else "–"),
            Text(how_sure(result)),
        )
    return table


def explanations(results: Sequence[ScanResult]) -> list[Text]:
    """Why a scan has no verdict, which files were left out, and what to do: one line each."""
    lines = [
        Text(f"{printable(result.input)}: {printable(result.reason)}")
        for result in results
        if result.verdict in (Verdict.INCONCLUSIVE, Verdict.UNREADABLE)
    ]
    lines += [_nodules_line(result.input, result.nodules) for result in results if result.nodules]
    lines += [_ledger_line(result.input, result.ledger) for result in results if result.ledger is not None]
    left_out = {(result.input, path) for result in results for path in result.refused if result.shape_kji is not None}
    if left_out:
        lines.append(Text(f"{len(left_out)} file(s) left out: --json or --report say which and why."))
    for verdict in Verdict:
        if any(result.verdict is verdict for result in results):
            lines.append(Text(f"{wording.verdict(verdict)} {wording.next_step(verdict)}", style=STYLES[verdict]))
    return lines


def _nodules_line(name: str, nodules: Sequence[Nodule]) -> Text:
    """How many places look like a nodule, and how probable it is that the least credible one is not real."""
    judged = [nodule.altered for nodule in nodules if nodule.altered is not None]
    highest = f"highest probability of being altered {max(judged):.2f}" if judged else "not judged"
    return Text(f"{printable(name)}: {len(nodules)} place(s) look like a nodule; {highest}. See --json or --report.")


def _ledger_line(name: str, said: Mapping[str, Any]) -> Text:
    """What the ledger says of one result: red for an alarm, green only where it shows what was recorded."""
    same = said["answer"] in ("identical", "same-pixels")
    style = "bold red" if said["alarm"] else "green" if same else "yellow"
    return Text(f"{printable(name)}: ledger: {said['answer']}. {printable(said['words'])}", style=style)


def checks_table(rows: Sequence[tuple[str, str, str, str]]) -> Table:
    """(name, state, detail, remedy) of each check of this machine."""
    styles = {"works": "green", "missing": "yellow", "broken": "bold red"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("what", "state", "detail", "what to do"):
        table.add_column(title, overflow="fold")
    for name, state, detail, remedy in rows:
        table.add_row(Text(name), Text(state, style=styles[state]), Text(printable(detail)), Text(remedy))
    return table
