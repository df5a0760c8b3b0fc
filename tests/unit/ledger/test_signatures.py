"""DICOM signatures: what `dcmsign` signs is found to fit, byte for byte; what was changed afterwards is not."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from pydicom import uid
from pydicom.dataset import FileDataset

from jachai.ledger import signatures
from jachai.ledger.reading import Met, meeting
from jachai.service.ledger import add, verify
from tests.unit.io.dicom_samples import Series, compressed, enhanced, item, pattern, save, slice_of

pytestmark = pytest.mark.skipif(shutil.which("dcmsign") is None, reason="dcmsign (Debian: dcmtk) is not installed")


@dataclass(frozen=True)
class Signer:
    """Key and certificate files, and the certificate of who issued it."""

    key: Path
    certificate: Path
    authority: Path


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    folder = tmp_path_factory.mktemp("keys")
    keys = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("Hospital", "Scanner")]
    paths = []
    for n in (0, 1):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(names[n])
            .issuer_name(names[0])
            .public_key(keys[n].public_key())
            .serial_number(n + 1)
            .not_valid_before(datetime.datetime(2020, 1, 1))
            .not_valid_after(datetime.datetime(2090, 1, 1))
            .add_extension(x509.BasicConstraints(ca=n == 0, path_length=None), critical=True)
            .sign(keys[0], hashes.SHA256())
        )
        paths.append(folder / f"{n}.pem")
        paths[-1].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(keys[1].private_bytes(*form))
    return Signer(folder / "key.pem", paths[1], paths[0])


def signed(data_set: FileDataset, signer: Signer, folder: Path, *options: str) -> tuple[Path, Path]:
    """The signed file, and the bytes that dcmsign signed."""
    native, out, dump = (folder / name for name in ("native.dcm", "signed.dcm", "dump.bin"))
    save(data_set, native)
    command = ["dcmsign", "+s", signer.key, signer.certificate, "-pw", *options, "--dump", dump, native, out]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    assert dcmsign_accepts(out, signer)
    return out, dump


def dcmsign_accepts(path: Path, signer: Signer) -> bool:
    command = ["dcmsign", "--verify", "+rg", "+cf", signer.authority, path]
    return subprocess.run([str(part) for part in command], capture_output=True).returncode == 0


def with_a_sequence(data_set: FileDataset) -> FileDataset:
    data_set.ReferencedStudySequence = [item(ReferencedSOPClassUID="1.2.3", ReferencedSOPInstanceUID="1.2.3.4.5")]
    data_set.SpecificCharacterSet, data_set.PatientName = "ISO_IR 192", "Müller^A"
    data_set.PixelPaddingValue = -2000
    data_set.private_block(0x0099, "SOMEBODY", create=True).add_new(1, "UN", b"abcd")
    return data_set


def implicit(data_set: FileDataset) -> FileDataset:
    data_set.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    data_set.set_original_encoding(True, True)
    return data_set


MADE: dict[str, Callable[[], FileDataset]] = {
    "plain": lambda: slice_of(Series(), 0),
    "odd size, sequence, text, private": lambda: with_a_sequence(slice_of(Series(), 0, pattern(0, (9, 7)))),
    "JPEG-LS": lambda: compressed(slice_of(Series(), 0, pattern(0, (64, 64))), uid.JPEGLSLossless),
    "RLE": lambda: compressed(slice_of(Series(), 0), uid.RLELossless),
    "enhanced": lambda: enhanced(Series(n=3)),
    "implicit": lambda: implicit(with_a_sequence(slice_of(Series(), 0))),
}
ALGORITHMS = {"SHA256": "+m2", "SHA512": "+m5", "SHA384": "+m3", "SHA1": "+ms", "MD5": "+mm"}


@pytest.mark.parametrize("name", MADE)
def test_the_signed_bytes_are_those_of_dcmsign(name: str, signer: Signer, tmp_path: Path) -> None:
    out, dump = signed(MADE[name](), signer, tmp_path, "+m2")
    data_set, values = (pydicom.dcmread(BytesIO(out.read_bytes())) for _ in range(2))
    mac = values[signatures.MAC_PARAMETERS].value[0]
    own = data_set[signatures.SIGNATURES].value[0]
    tags = {int(tag) for tag in mac.DataElementsSigned}
    found = signatures.signed_bytes(data_set, own, tags, mac.MACCalculationTransferSyntaxUID)
    assert found == dump.read_bytes()
    [state] = signatures.signature_states(out.read_bytes(), [signer.authority.read_text()])
    assert state.state == "valid"
    assert "CN=Hospital vouches for" in state.words and "CN=Scanner" in state.words and "with the pixels" in state.words


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm(algorithm: str, signer: Signer, tmp_path: Path) -> None:
    out, _ = signed(slice_of(Series(), 0), signer, tmp_path, ALGORITHMS[algorithm])
    [state] = signatures.signature_states(out.read_bytes(), [])
    assert state.state == "valid"
    assert ("no longer safe" in state.words) == (algorithm in signatures.WEAK)
    assert "NOT known to be trusted" in state.words


def test_the_creator_profile_and_a_list_of_tags(signer: Signer, tmp_path: Path) -> None:
    out, _ = signed(slice_of(Series(), 0), signer, tmp_path, "+pc", "+m2")
    assert signatures.signature_states(out.read_bytes(), [signer.certificate.read_text()])[0].words.startswith(
        "it fits"
    )
    (tmp_path / "few").mkdir()
    out, _ = signed(slice_of(Series(), 0), signer, tmp_path / "few", "+m2", "-t", "0010,0020", "-t", "0008,0060")
    [state] = signatures.signature_states(out.read_bytes(), [])
    assert (state.state, "2 attributes, NOT the pixels" in state.words) == ("valid", True)


@pytest.mark.parametrize("change", ["pixel", "attribute", "removed", "certificate"])
def test_what_was_changed_afterwards_does_not_fit(change: str, signer: Signer, tmp_path: Path) -> None:
    out, _ = signed(slice_of(Series(), 0), signer, tmp_path, "+m2")
    data_set = pydicom.dcmread(out)
    if change == "pixel":
        data_set.PixelData = bytes([data_set.PixelData[0] ^ 1]) + data_set.PixelData[1:]
    elif change == "attribute":
        data_set.Manufacturer = "Somebody"
    elif change == "removed":
        del data_set.Manufacturer
    else:
        der = x509.load_pem_x509_certificate(signer.authority.read_bytes()).public_bytes(serialization.Encoding.DER)
        data_set.DigitalSignaturesSequence[0].CertificateOfSigner = der + b"\0" * (len(der) % 2)
    data_set.save_as(out)
    assert not dcmsign_accepts(out, signer)
    assert [state.state for state in signatures.signature_states(out.read_bytes(), [])] == ["invalid"]


def test_another_transfer_syntax_is_not_checked_rather_than_wrong(signer: Signer, tmp_path: Path) -> None:
    out, _ = signed(slice_of(Series(), 0), signer, tmp_path, "+m2")
    data_set = pydicom.dcmread(out)
    data_set.compress(uid.RLELossless, generate_instance_uid=False)
    data_set.save_as(out)
    [state] = signatures.signature_states(out.read_bytes(), [])
    assert (state.state, "another transfer syntax" in state.words) == ("unchecked", True)


def test_nonsense_does_not_fit(signer: Signer, tmp_path: Path) -> None:
    out, _ = signed(slice_of(Series(), 0), signer, tmp_path, "+m2")
    for keyword, value in (("CertificateOfSigner", b"nothing!"), ("Signature", b"\0" * 10), ("MACIDNumber", 7)):
        data_set = pydicom.dcmread(out)
        setattr(data_set.DigitalSignaturesSequence[0], keyword, value)
        buffer = BytesIO()
        data_set.save_as(buffer)
        assert [s.state for s in signatures.signature_states(buffer.getvalue(), [])] == ["invalid"], keyword


def test_they_are_told_by_add_and_verify(signer: Signer, tmp_path: Path) -> None:
    out, _ = signed(slice_of(Series(), 0), signer, tmp_path, "+m2")
    with meeting(out, bytes(32)) as items:
        [met] = items
    assert isinstance(met, Met)
    assert met.signatures[0][0] == "valid"
    ledger = tmp_path / "ledger"
    assert add([out], ledger).bad_signatures == []
    verified = verify(out, ledger, trusted=[signer.authority])
    assert (verified.bad_signatures, list(verified.signatures.values())) == (False, [1])
    data_set = pydicom.dcmread(out)
    data_set.StationName = "changed"
    data_set.save_as(out)
    assert verify(out, ledger).bad_signatures is False
    data_set.Manufacturer = "changed"
    data_set.save_as(out)
    assert verify(out, ledger).bad_signatures is True
    assert add([out], tmp_path / "another").bad_signatures == [str(out)]
