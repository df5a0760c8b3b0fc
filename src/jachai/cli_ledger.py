"""Command line of the ledger → one call into `service.ledger` or `service.ledger_keeping` → text, JSON, an exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from jachai.core.progress import Progress
    from jachai.service.ledger import Added, Verified

Job = Callable[[], int]
ProgressBar = Callable[[], AbstractContextManager["Progress"]]
SAME, CHANGED, CANNOT_SAY = 0, 1, 3
Folder = Annotated[
    Path | None, typer.Option("--ledger", metavar="DIR", help="Default: JACHAI_LEDGER, else the user's own.")
]


def ledger_commands(progress_bar: ProgressBar) -> typer.Typer:
    """The commands under `jachai ledger`. progress_bar: how progress is shown."""
    app = typer.Typer(
        help="Is this bit for bit what was acquired, and if not, where does it differ?", no_args_is_help=True
    )
    _add_add(app, progress_bar)
    _add_verify(app, progress_bar)
    _add_show(app)
    _add_checkpoint(app)
    _add_prove(app)
    _add_audit(app)
    return app


def _add_add(app: typer.Typer, progress_bar: ProgressBar) -> None:
    @app.command()
    def add(
        paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH...", help="Files, folders or zips.")] = None,
        ledger: Folder = None,
        source_ae: Annotated[str | None, typer.Option(metavar="AE", help="Who sent it: application entity.")] = None,
        source_address: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Who sent it: host.")] = None,
        keep: Annotated[bool, typer.Option("--keep", help="Keep a copy, to show differences later.")] = False,
        decision: Annotated[
            str | None, typer.Option(metavar="WORD", help="Log a decision: accepted, rejected, compared, ...")
        ] = None,
        about: Annotated[int | None, typer.Option(metavar="N", help="Which entry was decided on.")] = None,
        by: Annotated[str, typer.Option(metavar="NAME", help="Who decided.")] = "",
    ) -> Job:
        """Record what is seen for the first time; or log what an operator decided about an entry."""

        def job() -> int:
            from jachai.core.errors import UsageError
            from jachai.service.ledger import Source, add, ledger_folder
            from jachai.service.ledger_keeping import decide

            folder = ledger_folder(ledger)
            if (decision is None) != (about is None) or bool(paths) == (decision is not None):
                raise UsageError("Give paths to record, or --decision with --about and --by.")
            if decision is not None and about is not None:
                sys.stdout.write(f"Logged as entry {decide(folder, about, decision, by)}\n")
                return SAME
            with progress_bar() as progress:
                source = Source(source_ae, source_address)
                done = add(paths or [], folder, source=source, keep=keep, progress=progress)
            return _show_added(done, folder)

        return job


def _show_added(done: Added, folder: Path) -> int:
    sys.stdout.write(
        f"Recorded: {done.new} images of {done.series} series; known already: {done.known}. "
        f"The ledger holds {done.size} entries: {folder}\n"
    )
    for name in done.conflicts:
        sys.stdout.write(f"NOT what was recorded under this UID (see `jachai ledger verify`): {_printable(name)}\n")
    for name in done.bad_signatures[:10]:
        sys.stdout.write(f"Recorded, but its DICOM signature does not fit: {_printable(name)}\n")
    _show_refused({name: why for name, why in done.refused.items() if name not in done.left_out})
    if done.conflicts or done.bad_signatures:
        return CHANGED
    return CANNOT_SAY if set(done.refused) - done.left_out or not done.new + done.known else SAME


def _add_verify(app: typer.Typer, progress_bar: ProgressBar) -> None:
    @app.command()
    def verify(
        paths: Annotated[
            list[Path], typer.Argument(metavar="PATH...", help="Files, folders or zips; each on its own.")
        ],
        ledger: Folder = None,
        original: Annotated[
            Path | None, typer.Option(metavar="PATH", help="Where the originals lie: exact voxels, largest difference.")
        ] = None,
        pictures: Annotated[
            Path | None, typer.Option(metavar="DIR", help="Write a picture of each difference.")
        ] = None,
        trust: Annotated[
            list[Path] | None, typer.Option(metavar="CERT.pem", help="Whose DICOM signatures are trusted.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON object per series.")] = False,
    ) -> Job:
        """Compare with what was recorded. Status 0 the same, 1 changed, 3 it cannot be said."""

        def job() -> int:
            from jachai.service.ledger import ledger_folder, verify

            status = SAME
            for path in paths:
                with progress_bar() as progress:
                    verified = verify(
                        path, ledger_folder(ledger), original=original, trusted=trust or [], progress=progress
                    )
                _show_verified(verified, as_json)
                _show_pictures(verified, pictures, to_stderr=as_json)
                status = max(status, _status(verified), key=(SAME, CANNOT_SAY, CHANGED).index)
            return status

        return job


def _status(verified: Verified) -> int:
    from jachai.ledger.answer import ALARMS, UNCHANGED

    if any(answer.answer in ALARMS for answer in verified.answers) or verified.bad_signatures:
        return CHANGED
    fine = verified.answers and all(answer.answer in UNCHANGED for answer in verified.answers) and verified.complete
    return SAME if fine else CANNOT_SAY


def _show_verified(verified: Verified, as_json: bool) -> None:
    for answer in verified.answers:
        if as_json:
            sys.stdout.write(json.dumps({"path": verified.path, "series": answer.name, **answer.to_json()}) + "\n")
            continue
        sys.stdout.write(f"{_printable(answer.name)}: {answer.answer.value}\n")
        for sentence in answer.sentences():
            sys.stdout.write(f"  {_printable(sentence)}.\n")
    if as_json:
        return
    for line, count in verified.signatures.items():
        sys.stdout.write(f"  DICOM signature of {count} images: {_printable(line)}\n")
    if not verified.answers:
        sys.stdout.write(f"{_printable(verified.path)}: nothing could be compared\n")
    _show_refused(verified.refused)


def _show_refused(refused: dict[str, str] | Any) -> None:
    for name, why in list(refused.items())[:10]:
        sys.stderr.write(f"Not read: {_printable(name)}: {why}\n")
    if len(refused) > 10:
        sys.stderr.write(f"Not read: {len(refused) - 10} more\n")


def _show_pictures(verified: Verified, folder: Path | None, *, to_stderr: bool) -> None:
    if folder is None:
        return
    from jachai.service.ledger_difference import write_pictures

    for path in write_pictures(verified.differences, folder):
        (sys.stderr if to_stderr else sys.stdout).write(f"Written: {path}\n")
    if not verified.differences:
        sys.stderr.write("No picture: nothing differs, or the originals were not kept (--keep, --original).\n")


def _add_show(app: typer.Typer) -> None:
    @app.command()
    def show(
        n: Annotated[
            int | None, typer.Argument(metavar="N", help="One entry; without it, the state of the ledger.")
        ] = None,
        ledger: Folder = None,
        last: Annotated[int, typer.Option(metavar="COUNT", min=0, help="How many of the newest entries.")] = 5,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    ) -> Job:
        """Show the state of the ledger, or an entry."""

        def job() -> int:
            from dataclasses import asdict

            from jachai.service.ledger import ledger_folder
            from jachai.service.ledger_keeping import entry, state

            folder = ledger_folder(ledger)
            if n is not None:
                sys.stdout.write(json.dumps(entry(folder, n), indent=None if as_json else 1) + "\n")
                return SAME
            now = state(folder, last)
            if as_json:
                sys.stdout.write(json.dumps(asdict(now)) + "\n")
                return SAME
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(now.kinds.items()))
            sys.stdout.write(
                f"{folder}\n{now.size} entries ({kinds or 'none'}), {now.bytes_on_disk:,} bytes\nroot {now.root}\n"
                f"{now.checkpoints} checkpoints, the newest over {now.signed_size} entries\nkey {now.key}\n"
            )
            for says in now.newest:
                sys.stdout.write(json.dumps(says) + "\n")
            return SAME

        return job


def _add_checkpoint(app: typer.Typer) -> None:
    @app.command()
    def checkpoint(
        ledger: Folder = None,
        out: Annotated[Path | None, typer.Option(metavar="FILE", help="For a witness: with every leaf hash.")] = None,
        page: Annotated[Path | None, typer.Option(metavar="FILE.html", help="To print, with QR codes.")] = None,
    ) -> Job:
        """Sign the head of the log; give it to a witness on another host or on paper."""

        def job() -> int:
            from jachai.service.ledger import ledger_folder
            from jachai.service.ledger_keeping import sign

            sys.stdout.write(sign(ledger_folder(ledger), out, page))
            for path in (out, page):
                if path is not None:
                    sys.stderr.write(f"Written: {path}\n")
            return SAME

        return job


def _add_prove(app: typer.Typer) -> None:
    @app.command()
    def prove(
        n: Annotated[int | None, typer.Argument(metavar="N", help="That this entry is in the log.")] = None,
        ledger: Folder = None,
        since: Annotated[
            Path | None, typer.Option(metavar="FILE", help="That the log only grew since this checkpoint.")
        ] = None,
    ) -> Job:
        """Print a proof as JSON, which others check without the ledger."""

        def job() -> int:
            from jachai.service.ledger import ledger_folder
            from jachai.service.ledger_keeping import prove

            sys.stdout.write(prove(ledger_folder(ledger), n, since))
            return SAME

        return job


def _add_audit(app: typer.Typer) -> None:
    @app.command()
    def audit(
        ledger: Folder = None,
        key: Annotated[Path | None, typer.Option(metavar="FILE", help="The public key as a witness keeps it.")] = None,
        witness: Annotated[
            list[Path] | None, typer.Option(metavar="FILE", help="What `checkpoint --out` wrote; several may be given.")
        ] = None,
    ) -> Job:
        """Check the whole log. Status 1 if anything was edited, removed, moved or cut off."""

        def job() -> int:
            from jachai.service.ledger import ledger_folder
            from jachai.service.ledger_keeping import audit

            done = audit(ledger_folder(ledger), key, witness or [])
            _show_audit(done.wrong, done.looked_at, bool(witness))
            return CHANGED if done.wrong else SAME

        return job


def _show_audit(wrong: Sequence[str], looked_at: str, witnessed: bool) -> None:
    for line in wrong:
        sys.stdout.write(f"{_printable(line)}\n")
    sys.stdout.write(f"{looked_at}: {'NOT as they were' if wrong else 'everything holds'}\n")
    if not witnessed:
        sys.stdout.write(
            "No outside witness was given: whoever rules this machine could have rewritten the whole log.\n"
        )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def show_ledger_demo(out: Path | None, progress_bar: ProgressBar) -> int:
    """Run `jachai demo --ledger`, print each answer, and say where the page with the pictures is."""
    from jachai.service.ledger_demo import run_ledger_demo

    with progress_bar() as progress:
        shown = run_ledger_demo(out, progress)
    for meeting, verified in shown.verified:
        [answer] = verified.answers
        sys.stdout.write(f"{meeting.title}\n  {answer.answer.value}\n")
        for sentence in answer.sentences():
            sys.stdout.write(f"  {sentence}.\n")
    sys.stdout.write(f"Written: {shown.page}\n")
    if not shown.as_expected:
        sys.stderr.write("jachai: The demo did not turn out as it should.\n")
    return SAME if shown.as_expected else CANNOT_SAY
