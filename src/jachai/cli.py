"""Command line → one call into `service` → text, JSON and an exit status.

0 all examined, no sign; 1 tampering found (wins over 3); 2 usage; 3 something could not be examined or was inconclusive;
70 an internal error; 130 interrupted; 141 the reader of the output went away.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from jachai import __version__
from jachai.cli_compare import add_compare
from jachai.cli_dataset import dataset_commands
from jachai.cli_ledger import ledger_commands, show_ledger_demo
from jachai.cli_models import models_commands
from jachai.cli_painter import painter_commands
from jachai.cli_serve import add_serve, run_demo_page
from jachai.cli_simulate import add_simulate
from jachai.cli_train import add_train
from jachai.core.errors import JachaiError, UsageError

if TYPE_CHECKING:  # numpy and all that follows are loaded when a command runs, not when help is shown
    from jachai.core.finding import ScanResult
    from jachai.core.progress import Progress

NO_SIGN, TAMPERED, USAGE, NOT_EXAMINED, INTERNAL, INTERRUPTED, NOBODY_LISTENS = 0, 1, 2, 3, 70, 130, 141
REPORT_TO = "the issue page of the repository you got Jachai from"

Job = Callable[[], int]
"""What a command line asks for; runs after parsing and returns the exit status."""

app = typer.Typer(
    help="Jachai examines CT and MRI scans for tampering. Research use only, not a diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit status: 0 no sign, 1 tampering found, 2 usage, 3 not examined or inconclusive, 70 internal error.",
)


class ModalityChoice(StrEnum):
    """What a file that does not say is taken for."""

    CT = "CT"
    MR = "MR"


class LanguageChoice(StrEnum):
    """In which language a report is written."""

    EN = "en"
    BN = "bn"


class PhantomChoice(StrEnum):
    """Which embedded study."""

    CHEST = "chest"
    BRAIN = "brain"


class FormatChoice(StrEnum):
    """In which format a phantom is written."""

    DICOM = "dicom"
    NIFTI = "nifti"
    METAIMAGE = "metaimage"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command `jachai`: exits with the status of the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Parse and run; every expected error becomes a message and a status, a bug becomes status 70."""
    try:
        job = app(list(arguments), prog_name="jachai", standalone_mode=False)
        status = job() if callable(job) else int(job or 0)
        sys.stdout.flush()
        return status
    except TyperException as error:
        return _say(f"{error.format_message()}\nTry 'jachai --help'.", USAGE)
    except UsageError as error:
        return _say(_message(error), USAGE)
    except JachaiError as error:
        return _say(_message(error), NOT_EXAMINED)
    except KeyboardInterrupt:
        return _say("Interrupted.", INTERRUPTED)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - or Python complains when it flushes at exit
        return NOBODY_LISTENS
    except Exception as error:  # noqa: BLE001 - the entry point translates bugs
        if os.environ.get("JACHAI_DEBUG") == "1":
            traceback.print_exc()
        return _say(
            f"Internal error: {type(error).__name__}. This is a bug in Jachai, not in your files. Nothing was concluded.\n"
            f"Please report it on {REPORT_TO}, with what JACHAI_DEBUG=1 prints (check it for names of files first).",
            INTERNAL,
        )


def _message(error: JachaiError) -> str:
    return f"{error.reason} {error.remedy}".strip()


def _say(message: str, status: int) -> int:
    sys.stderr.write(f"jachai: {message}\n")
    return status


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jachai {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def scan(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders or zips; each on its own.")],
    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="JSON lines, one object per volume; - is stdout.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="DIR", help="Write report.html into this folder.")] = None,
    pdf: Annotated[Path | None, typer.Option(metavar="FILE.pdf", help="Write the report as a PDF to print.")] = None,
    language: Annotated[
        LanguageChoice, typer.Option(help="Of the report: en or bn (Bangla).", case_sensitive=False)
    ] = LanguageChoice.EN,
    heatmap: Annotated[
        Path | None,
        typer.Option(metavar="FILE.nii.gz", help="Heat map on the scan's grid; several volumes: FILE-1.nii.gz, ..."),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The engine; default: the best there is.")] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Examine N paths at a time.")] = 1,
    modality: Annotated[
        ModalityChoice | None,
        typer.Option(help="What NIfTI, MetaImage and pictures are taken for.", case_sensitive=False),
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", metavar="DIR", help="Ask this ledger too; default: the user's, if any.")
    ] = None,
    no_ledger: Annotated[bool, typer.Option("--no-ledger", help="Ask no ledger and log nothing.")] = False,
) -> Job:
    """Examine scans: tampered or not, where, and how surely."""

    def job() -> int:
        from jachai.core.volume import Modality
        from jachai.service.delivery import Wanted, json_line, scan_and_deliver
        from jachai.service.ledger import ledger_for_scan
        from jachai.service.use_cases import ScanRequest

        taken_for = None if modality is None else Modality(modality.value)
        asked = None if no_ledger else ledger_for_scan(ledger)
        request = ScanRequest(tuple(paths), model, taken_for, jobs, language=language.value, ledger=asked)
        to_stdout = json == "-"
        wanted = Wanted(None if json is None or to_stdout else Path(json), heatmap, report, pdf)
        with _progress_bar() as progress:
            on_result = (lambda result: _line(json_line(result))) if to_stdout else (lambda result: None)
            delivered = scan_and_deliver(request, wanted, on_result=on_result, progress=progress)
        if not to_stdout:
            _show_results(delivered.results)
        files = [delivered.report, wanted.pdf, *(path for _, path in delivered.heatmaps), wanted.json]
        _show_files(files, to_stderr=to_stdout)
        return _status(delivered.results)

    return job


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to; default: a new temporary folder.")] = None,
    web: Annotated[bool, typer.Option("--web", help="Show them on the page of `jachai serve`, until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page.")] = 8321,
    ledger: Annotated[bool, typer.Option("--ledger", help="Record a study, meet it again in eight ways.")] = False,
) -> Job:
    """Make an intact and a tampered study, and examine both; or show what the ledger sees."""

    def job() -> int:
        if web:
            return run_demo_page(port)
        if ledger:
            return show_ledger_demo(out, _progress_bar)
        from jachai.service.demo import run_demo

        with _progress_bar() as progress:
            shown = run_demo(out, progress)
        _show_results(shown.results)
        _show_files([shown.report], to_stderr=False)
        return NO_SIGN if shown.as_expected else _say("The demo did not turn out as it should.", NOT_EXAMINED)

    return job


@app.command()
def phantom(
    study: Annotated[PhantomChoice, typer.Argument(help="Which embedded study.")],
    out: Annotated[Path, typer.Option(metavar="PATH", help="A new folder (DICOM) or file.")],
    form: Annotated[FormatChoice, typer.Option("--format", help="What to write.")] = FormatChoice.DICOM,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same patient and noise.")] = 0,
    kernel: Annotated[str, typer.Option(help="Of the chest: soft, standard or sharp.")] = "standard",
    noise: Annotated[float, typer.Option(min=0, help="Of the chest: noise in the middle of the body, HU.")] = 28.0,
    slices: Annotated[int, typer.Option(min=1, max=1000)] = 96,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Rows and columns.")] = 320,
    spacing: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="SLICE PIXEL", help="Distances in mm; default: the whole organ."),
    ] = None,
    tampered: Annotated[
        bool, typer.Option("--tampered", help="Of the chest: with a nodule removed, marked as such.")
    ] = False,
) -> Job:
    """Write the embedded study: a chest CT or brain MRI made by code."""

    def job() -> int:
        from jachai.service.demo import PhantomOrder, write_phantom

        order = PhantomOrder(study.value, form.value, seed, kernel, (slices, size, size), spacing, noise, tampered)
        _line(str(write_phantom(order, out)))
        return NO_SIGN

    return job


@app.command()
def doctor(json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> Job:
    """Say what works on this machine, and what to install where something does not."""

    def job() -> int:
        from jachai.service.doctor import as_json, examine_machine

        with _progress_bar() as progress:
            checks = examine_machine(progress)
        if json:
            _line(as_json(checks))
        else:
            from jachai.report.terminal import checks_table, console

            console().print(checks_table([(c.name, c.state, c.detail, c.remedy) for c in checks]))
        return NOT_EXAMINED if any(check.state == "broken" for check in checks) else NO_SIGN

    return job


def _status(results: Iterable[ScanResult]) -> int:
    """The exit status of a scan. A refused file that may be part of a scan counts as not examined."""
    from jachai.core.finding import Verdict

    results = list(results)
    ledgers = [result.ledger for result in results if result.ledger is not None]
    if any(result.verdict is Verdict.TAMPERED for result in results) or any(said["alarm"] for said in ledgers):
        return TAMPERED
    if any(result.verdict is not Verdict.NO_SIGN or not result.complete for result in results):
        return NOT_EXAMINED
    return NO_SIGN


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _show_results(results: Sequence[ScanResult]) -> None:
    from jachai.report.terminal import console, explanations, results_table

    screen = console()
    screen.print(results_table(results))
    for line in explanations(results):
        screen.print(line)


def _show_files(paths: Sequence[Path | None], *, to_stderr: bool) -> None:
    for path in paths:
        if path is not None:
            (sys.stderr if to_stderr else sys.stdout).write(f"Written: {path}\n")


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    """A bar on stderr, if that is a terminal."""
    from jachai.core.progress import silent

    if not sys.stderr.isatty():
        yield silent
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from jachai.report.terminal import console

    columns: tuple[Any, ...] = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda stage, fraction: bar.update(task, description=stage, completed=fraction)


app.add_typer(dataset_commands(_progress_bar), name="dataset")
add_simulate(app, _progress_bar)
add_serve(app)
add_compare(app, _progress_bar)
app.add_typer(painter_commands(_progress_bar), name="painter")
app.add_typer(ledger_commands(_progress_bar), name="ledger")
add_train(app, _progress_bar)
app.add_typer(models_commands(), name="models")


if __name__ == "__main__":
    main()
