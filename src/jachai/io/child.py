"""Requests on stdin → replies on stdout: the main loop of a confined child process, in which all parsing happens.

A request is {"do": task, "seconds": …, …}; the reply is what the task returned, or {"error": class, "reason", "remedy"}.
While it works, a task may ask for memory: {"allocate": [k, j, i]}, answered by {"path": …} (and an open file, see
`io.sandbox`).
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from jachai.core.errors import Damaged, LimitExceeded, Unreadable
from jachai.core.volume import Voxels
from jachai.io import sandbox
from jachai.io.channel import Nonsense, read_message, write_message

Request = Mapping[str, Any]


class Desk:
    """What a task may use beside its request: memory shared with the parent."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO, link: socket.socket | None) -> None:
        self._incoming, self._outgoing, self._link = incoming, outgoing, link
        self.attached: Voxels | None = None

    def attach(self, shape_kji: tuple[int, int, int], path: str | None) -> None:
        """Map the memory that the parent passes; forget what was mapped before."""
        self.attached = None
        self.attached = sandbox.map_shared(shape_kji, path, self._link)

    def allocate(self, shape_kji: tuple[int, int, int]) -> Voxels:
        """`io.reader.Allocate`: ask the parent for memory. Raises LimitExceeded if it says no."""
        write_message(self._outgoing, {"allocate": [int(side) for side in shape_kji]})
        answer = read_message(self._incoming)
        if answer is None:
            raise SystemExit(0)
        if "refused" in answer:
            raise LimitExceeded(str(answer["refused"]), str(answer.get("remedy", "")))
        return sandbox.map_shared(shape_kji, answer["path"], self._link)


Task = Callable[[Request, Desk], dict[str, Any]]


def main(tasks_module: str, memory_bytes: int, file_bytes: int, link_descriptor: int) -> None:
    """Serve the TASKS of a module until stdin closes. link_descriptor: −1 where open files cannot be passed."""
    incoming, outgoing = _take_pipes()
    link = socket.socket(fileno=link_descriptor) if link_descriptor >= 0 else None
    warnings.simplefilter("ignore")
    sandbox.confine(memory_bytes, file_bytes)
    sys.modules["requests"] = None  # type: ignore[assignment]  # pydicom would load it (75 ms) for downloads
    tasks: Mapping[str, Task] = importlib.import_module(tasks_module).TASKS
    desk = Desk(incoming, outgoing, link)
    try:
        while (request := read_message(incoming)) is not None:
            write_message(outgoing, _answer(tasks, request, desk))
    except (OSError, Nonsense):
        return  # the parent is gone


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Own copies of stdin and stdout; what a codec prints goes nowhere."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 open until the process ends
    return incoming, outgoing


def _answer(tasks: Mapping[str, Task], request: Request, desk: Desk) -> dict[str, Any]:
    try:
        sandbox.allow_seconds(float(request["seconds"]))
        return tasks[request["do"]](request, desk)
    except Unreadable as error:
        return _refusal(error)
    except MemoryError:
        return _refusal(LimitExceeded("Reading the file would need more memory than is allowed."))
    except RecursionError:
        return _refusal(Damaged("The file nests its parts deeper than any genuine file does."))
    except OSError as error:
        return _refusal(Damaged(f"The file could not be read ({os.strerror(error.errno or 0)})."))
    except Exception as error:  # noqa: BLE001 hostile bytes make parsers and codecs raise anything; this is the entry point
        return _refusal(Damaged(f"The file contradicts its own format ({type(error).__name__})."))


def _refusal(error: Unreadable) -> dict[str, Any]:
    return {"error": type(error).__name__, "reason": error.reason, "remedy": error.remedy}
