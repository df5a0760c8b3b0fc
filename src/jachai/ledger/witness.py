"""The log's signed head → what an outside witness keeps: a file with every leaf hash, a page to print, a proof."""

from __future__ import annotations

import json
from datetime import datetime
from importlib.util import find_spec
from typing import Any

from jachai.core.errors import UsageError
from jachai.ledger import merkle
from jachai.ledger.keys import INSTALL
from jachai.ledger.log import Log

HASHES = "\njachai-leaf-hashes\n"
"""Stands between the checkpoint and the list of leaf hashes, one in hex per line, from entry 0 on."""
QR_ERROR_LEVEL = "m"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Checkpoint of a Jachai ledger</title><style>
@page {{ size: A4; margin: 20mm }}
body {{ font: 11pt/1.45 sans-serif; color: #111; background: #fff; max-width: 170mm; margin: 8mm auto; padding: 0 4mm }}
h1 {{ font-size: 17pt; margin: 0 0 2mm }}
pre {{ font: 9.5pt/1.4 monospace; white-space: pre-wrap; overflow-wrap: anywhere; border: 0.3mm solid #999; padding: 3mm }}
.qr {{ display: flex; gap: 10mm; flex-wrap: wrap }} figure {{ margin: 0 }} figcaption {{ font-size: 9pt; max-width: 62mm }}
svg {{ width: 62mm; height: 62mm; display: block }}
.lines td {{ border-bottom: 0.2mm solid #555; width: 55mm; height: 9mm; vertical-align: bottom; font-size: 9pt }}
</style></head><body>
<h1>Checkpoint of a Jachai ledger</h1>
<p><b>{size:,} entries</b>, signed {time} (the ledger's own clock). Keep this page away from the machine that holds the ledger. As long
as it is kept, none of these {size:,} entries can be edited, removed or moved without notice, not even by whoever rules that machine.</p>
<div class="qr"><figure>{note_qr}<figcaption>The signed checkpoint, as below</figcaption></figure>
<figure>{key_qr}<figcaption>The public key that it is signed with</figcaption></figure></div>
<p>To check: scan the codes into two files (a phone does), or type them, then run<br>
<code>python verify_ledger.py ledger.sqlite --key public.key --witness checkpoint.txt</code></p>
<pre>{note}</pre>
<pre>{key}</pre>
<table class="lines"><tr><td>Printed on</td><td>By</td><td>Signature</td></tr></table>
</body></html>
"""


def witness_text(log: Log, note: str, size: int) -> str:
    """The checkpoint and the hash of every leaf it speaks of: names each entry that is changed later."""
    return note + HASHES.lstrip("\n") + "".join(f"{stored.hex()}\n" for _, _, stored in log.leaves(0, size))


def page(log: Log, note: str) -> str:
    """A page to print, with QR codes of the checkpoint and the public key. Raises UsageError without the extra `ledger`."""
    if find_spec("segno") is None:
        raise UsageError("The printed page needs the package 'segno' for its QR codes.", INSTALL)
    lines = note.splitlines()
    time = datetime.strptime(lines[3].removeprefix("time "), "%Y-%m-%dT%H:%M:%S.%fZ")
    key = log.identity.to_text() + "\n"
    return PAGE.format(
        size=int(lines[1]),
        time=time.strftime("%Y-%m-%d %H:%M:%S UTC"),
        note=note,
        key=key,
        note_qr=_qr(note),
        key_qr=_qr(key),
    )  # every text is the log's own: digits, base64, its name


def _qr(text: str) -> str:
    import segno

    code = segno.make(text, error=QR_ERROR_LEVEL, micro=False)
    return str(code.svg_inline(omitsize=True, border=4))


def inclusion(log: Log, n: int, note: str, size: int) -> dict[str, Any]:
    """The proof that entry n is in the log that `note` signed, to be checked without the log. Raises UsageError."""
    log.entry(n)
    if n >= size:
        raise UsageError(
            f"Entry {n} is younger than that checkpoint.", "Sign a new one with `jachai ledger checkpoint`."
        )
    [(_, leaf, _)] = log.leaves(n, n + 1)
    path = merkle.inclusion_proof(n, size, log.subtree)
    return {"n": n, "leaf": leaf.decode("ascii"), "path": [part.hex() for part in path], "checkpoint": note}


def consistency(log: Log, old_note: str, old: int, note: str, size: int) -> dict[str, Any]:
    """The proof that the log that `old_note` signed is the beginning of the one that `note` signed."""
    path = merkle.consistency_proof(old, size, log.subtree)
    return {"old_checkpoint": old_note, "path": [part.hex() for part in path], "checkpoint": note}


def proof_text(proof: dict[str, Any]) -> str:
    """As it is written to a file."""
    return json.dumps(proof, indent=1) + "\n"
