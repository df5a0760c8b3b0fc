"""The marks in every file that the simulator writes → the note that reading such a file gives.

A mark is what a file says of itself. It is shown to people and never enters a score (`Provenance.notes`).
"""

from __future__ import annotations

SIMULATED = "SIMULATED TAMPERING BY JACHAI, NOT FOR CLINICAL USE"
"""At most 64 characters, to fit into DICOM's SeriesDescription (LO), and 79 bytes, to fit into NIfTI's descrip."""
CREATOR = "JACHAI"
PRIVATE_GROUP = 0x0099
"""Of the private block with the attack record as JSON; its creator is CREATOR (PS3.5 7.8.1)."""
RECORD_ELEMENT = 0x00
"""Within the block: (0099,1000) UT."""
NOTE = "The file says of itself that it is simulated tampering made by Jachai; no score knows of it."


def is_marked(*texts: str) -> bool:
    """Does any text that a file holds carry the mark, in any case?"""
    return any(SIMULATED in text.upper() for text in texts)
