"""A DICOM data set → what each digital signature in it is worth (PS3.15 C, PS3.3 C.12.1.1.3). Confined child only.

Signatures of the data set itself are checked, not those within items of sequences. The bytes that were signed are put
together from the file's own bytes: of each signed attribute tag, VR, length and value, sequences and items without their
length, then the signature's own item without certificate, signature and time stamp.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pydicom
from pydicom import uid
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from jachai.io.pixels import NATIVE

SIGNATURES, MAC_PARAMETERS, PIXELS = 0xFFFAFFFA, 0x4FFE0001, 0x7FE00010
PIXEL_REPRESENTATION = 0x00280103
NOT_COVERED = frozenset({0x04000115, 0x04000120, 0x04000305, 0x04000310})
"""Certificate of Signer, Signature, Certified Timestamp Type and Certified Timestamp (PS3.3 C.12.1.1.3.1.1)."""
DIGEST_INFO = {
    "MD5": ("md5", "3020300c06082a864886f70d020505000410"),
    "SHA1": ("sha1", "3021300906052b0e03021a05000414"),
    "RIPEMD160": ("ripemd160", "3021300906052b2403020105000414"),
    "SHA256": ("sha256", "3031300d060960864801650304020105000420"),
    "SHA384": ("sha384", "3041300d060960864801650304020205000430"),
    "SHA512": ("sha512", "3051300d060960864801650304020305000440"),
}
"""MAC Algorithm → its name in hashlib and the head of its DigestInfo (RFC 8017 9.2, notes; RIPEMD-160: ISO/IEC 10118-3)."""
WEAK = frozenset({"MD5", "SHA1"})
MAX_SIGNATURES = 20
UNDEFINED = 0xFFFFFFFF
"""The length of encapsulated pixels."""
ITEM, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"


@dataclass(frozen=True, slots=True)
class SignatureState:
    """state: 'valid', 'invalid' or 'unchecked'. words: what a person must know; signer: subject of the certificate."""

    state: str
    words: str

    def to_json(self) -> dict[str, str]:
        """Plain types only."""
        return {"state": self.state, "words": self.words}


class Unchecked(Exception):
    """A signature that cannot be checked here; the text says why."""


def signature_states(data: bytes, trusted: Sequence[str]) -> list[SignatureState]:
    """data: a file. trusted: certificates in PEM. One state for each signature of the data set."""
    data_set = pydicom.dcmread(BytesIO(data), force=True)
    if SIGNATURES not in data_set:
        return []
    raw = pydicom.dcmread(BytesIO(data), force=True)  # a second time: to look at a value is to lose its bytes
    items = list(zip(data_set[SIGNATURES].value, raw[SIGNATURES].value, strict=True))
    return [_state(data_set, raw, pair, trusted) for pair in items[:MAX_SIGNATURES]]


def _state(data_set: Dataset, raw: Dataset, items: tuple[Dataset, Dataset], trusted: Sequence[str]) -> SignatureState:
    """items: the signature's item as values, and as bytes."""
    try:
        return _checked(data_set, raw, items, trusted)
    except Unchecked as error:
        return SignatureState("unchecked", f"not checked: {error}")
    except ImportError:
        return SignatureState("unchecked", "not checked: the package 'cryptography' is not installed")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        return SignatureState("invalid", f"it contradicts its own format ({type(error).__name__})")


def _checked(data_set: Dataset, raw: Dataset, items: tuple[Dataset, Dataset], trusted: Sequence[str]) -> SignatureState:
    from cryptography import x509

    item = items[0]
    [mac] = [m for m in data_set[MAC_PARAMETERS].value if m.MACIDNumber == item.MACIDNumber] or [None]
    if mac is None:
        raise ValueError("no parameters")
    signed = {int(tag) for tag in _several(mac.DataElementsSigned)}
    message = signed_bytes(raw, items[1], signed, str(mac.MACCalculationTransferSyntaxUID))
    certificate = x509.load_der_x509_certificate(_der(bytes(item.CertificateOfSigner)))
    algorithm = str(mac.MACAlgorithm).strip()
    who = certificate.subject.rfc4514_string()
    absent = signed - {int(tag) for tag in data_set.keys()}  # noqa: SIM118
    if absent or not _fits(certificate.public_key(), bytes(item.Signature), message, algorithm):
        return SignatureState("invalid", f"it does not fit the file: what {who} signed was changed")
    covers = f"{len(signed)} attributes, {'with the' if PIXELS in signed else 'NOT the'} pixels"
    weak = f" by {algorithm}, which is no longer safe" if algorithm in WEAK else ""
    return SignatureState("valid", f"it fits ({covers}){weak}; {_trust(certificate, trusted)}: {who}")


def signed_bytes(data_set: Dataset, item: Dataset, signed: set[int], syntax: str) -> bytes:
    """What the MAC was calculated over. data_set, item: read and not looked at since. Raises Unchecked if the file is stored in another way than was signed."""
    stored = str(data_set.file_meta.TransferSyntaxUID)
    explicit = syntax not in (uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)
    native = (stored in NATIVE, syntax in NATIVE)
    if not explicit or stored == uid.ExplicitVRBigEndian or (PIXELS in signed and (native[0] != native[1])):
        raise Unchecked("the file is stored in another transfer syntax than was signed")
    if PIXELS in signed and not native[0] and stored != syntax:
        raise Unchecked("the file is compressed in another way than was signed")
    parts = [_element(data_set, tag) for tag in sorted(int(t) for t in data_set.keys()) if tag in signed]  # noqa: SIM118
    own = [_element(item, tag) for tag in sorted(int(t) for t in item.keys()) if tag not in NOT_COVERED]  # noqa: SIM118
    return b"".join((*parts, *own))


def _element(data_set: Dataset, tag: int) -> bytes:
    raw = data_set.get_item(tag)
    assert raw is not None
    vr = str(raw.VR or _vr(data_set, tag))
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr.encode("ascii")
    if vr == "SQ":
        items = (
            ITEM + b"".join(_element(one, int(t)) for t in sorted(one.keys())) for one in data_set[tag].value or ()
        )
        return head + b"\0\0" + b"".join(items) + SEQUENCE_END
    value = _bytes(raw.value, vr)
    if tag == PIXELS and getattr(raw, "length", 0) == UNDEFINED:
        return head + b"\0\0" + b"".join(ITEM + fragment for fragment in _fragments(value)) + SEQUENCE_END
    if vr in EXPLICIT_VR_LENGTH_32:
        return head + b"\0\0" + len(value).to_bytes(4, "little") + value
    return head + len(value).to_bytes(2, "little") + value


def _bytes(value: Any, vr: str) -> bytes:
    """As in the file. pydicom converts the character set (CS) and the pixel representation (US) while it reads."""
    if isinstance(value, bytes):
        return value
    if vr == "US" and isinstance(value, int):
        return value.to_bytes(2, "little")
    if vr != "CS":
        raise Unchecked("an attribute cannot be read as it was signed")
    text = "\\".join(str(one) for one in _several(value or "")).encode("ascii", "replace")
    return text + b" " * (len(text) % 2)


def _vr(data_set: Dataset, tag: int) -> str:
    """Of an element in implicit VR."""
    if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF:
        return "LO"  # a private creator
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    if vr == "US or SS":
        sign = data_set.get_item(PIXEL_REPRESENTATION)
        return "SS" if sign is not None and sign.value in (1, b"\1\0") else "US"
    return "OW" if vr == "OB or OW" else vr


def _fragments(value: bytes) -> Iterator[bytes]:
    at = 0
    while value[at : at + 4] == ITEM:
        length = int.from_bytes(value[at + 4 : at + 8], "little")
        yield value[at + 8 : at + 8 + length]
        at += 8 + length


def _fits(key: Any, signature: bytes, message: bytes, algorithm: str) -> bool:
    """RSA (PKCS #1 v1.5) with any of the algorithms, ECDSA and DSA with those of SHA."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa

    if algorithm not in DIGEST_INFO:
        raise Unchecked(f"the MAC algorithm {algorithm} is not known")
    name, head = DIGEST_INFO[algorithm]
    try:
        digest = hashlib.new(name, message, usedforsecurity=False).digest()
    except ValueError:
        raise Unchecked(f"this system has no {algorithm}") from None
    try:
        if isinstance(key, rsa.RSAPublicKey):
            exact = signature[: (key.key_size + 7) // 8]
            return key.recover_data_from_signature(exact, padding.PKCS1v15(), None) == bytes.fromhex(head) + digest
        kinds: Mapping[str, Any] = {"SHA256": hashes.SHA256(), "SHA384": hashes.SHA384(), "SHA512": hashes.SHA512()}
        if algorithm not in kinds or not isinstance(key, ec.EllipticCurvePublicKey | dsa.DSAPublicKey):
            raise Unchecked("this kind of key is not checked")
        if isinstance(key, dsa.DSAPublicKey):
            key.verify(_der(signature), message, kinds[algorithm])
        else:
            key.verify(_der(signature), message, ec.ECDSA(kinds[algorithm]))
    except InvalidSignature:
        return False
    return True


def _der(padded: bytes) -> bytes:
    """A DER structure without the byte that makes its length even."""
    length, start = padded[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(padded[2:start], "big")
    return padded[: start + length]


def _trust(certificate: Any, trusted: Sequence[str]) -> str:
    """Is the certificate one of the trusted, or issued by one of them, and valid now?"""
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    now = datetime.now(UTC)
    expired = not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    suffix = " (its certificate has expired)" if expired else ""
    for text in trusted:
        known = x509.load_pem_x509_certificate(text.encode())
        if known == certificate:
            return f"signed by somebody you trust{suffix}"
        try:
            certificate.verify_directly_issued_by(known)
        except (InvalidSignature, ValueError, TypeError):
            continue
        return f"signed by somebody whom {known.subject.rfc4514_string()} vouches for{suffix}"
    return f"the signer is NOT known to be trusted{suffix}"


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
