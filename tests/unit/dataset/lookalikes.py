"""Small folders that are laid out like the public collections, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset

ROOT = "1.2.826.0.1.3680043.8.498.7"
SIDE = (24, 32)
STEP = 2.5


def dicom_slice(
    series: str, k: int, patient: str = "SECRET", maker: str = "GE", kernel: str = "SOFT", side: tuple[int, int] = SIDE
) -> FileDataset:
    """Slice k (from the feet) of a CT series; pixel 0.5 × 0.75 mm, first voxel at (−10, 20, 30 + 2.5 k)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = uid.CTImageStorage, f"{series}.{k + 1}"
    meta.TransferSyntaxUID, meta.ImplementationClassUID = uid.ExplicitVRLittleEndian, f"{ROOT}.9"
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = uid.CTImageStorage, f"{series}.{k + 1}"
    data.Modality, data.PatientName, data.PatientID = "CT", "Secret^Person", patient
    data.SeriesInstanceUID, data.StudyInstanceUID, data.InstanceNumber = series, f"{ROOT}.2", k + 1
    data.Manufacturer, data.ConvolutionKernel = maker, kernel
    data.ImagePositionPatient, data.ImageOrientationPatient = [-10, 20, 30 + STEP * k], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [0.5, 0.75], STEP
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    rows, columns = np.indices(side)
    pixels = (rows * 31 + columns * 7 + k * 101).astype("<i2")
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
    data.Rows, data.Columns = side
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelData = 15, pixels.tobytes()
    data["PixelData"].VR = "OW"
    return data


def dicom_series(folder: Path, number: int, n: int = 5, **said: str) -> list[Path]:
    """n files named by their slice number from the feet, in a folder; Series Instance UID ROOT.3.<number>."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{k}.dcm" for k in range(n)]
    for k, path in enumerate(paths):
        dicom_slice(series_uid(number), k, **said).save_as(path, enforce_file_format=True)  # type: ignore[arg-type]
    return paths


def series_uid(number: int) -> str:
    return f"{ROOT}.3.{number}"


def sop_uid(number: int, k: int) -> str:
    return f"{series_uid(number)}.{k + 1}"


def ct_gan(root: Path) -> Path:
    """Two experiments; the scan 6031 stands in both, with other pixels; 7001 has one slice on the disk."""
    for number, name in ((1, "Experiment 1 - Blind"), (2, "Experiment 2 - Open")):
        dicom_series(root / name / "6031", number, 5, maker="TEMPLATE")
    dicom_slice(series_uid(3), 7).save_as(
        dir_of(root / "Experiment 1 - Blind" / "7001") / "7.dcm", enforce_file_format=True
    )
    (root / "labels_exp1.csv").write_text(
        "type,uuid,slice,x,y\nFB,6031,3,20,10\nTM,6031,1,5,6\nFM,7001,7,9,8\nTB,9999,1,2,3\nXX,6031,1,2,3\nTB,6031,77,2,3\n"
    )
    (root / "labels_exp2.csv").write_text("type,uuid,slice,x,y\nFM,6031,2,11,12\n")
    return root


def dir_of(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def listed(root: Path) -> Path:
    """Two series of one patient, a folder of single slices of two patients, tampered slices, one folder missing."""
    dicom_series(root / "ct" / "a", 1)
    dicom_series(root / "ct" / "b", 2, kernel="SHARP")
    for n, patient in ((3, "X"), (4, "Y")):
        dicom_slice(series_uid(n), 0, patient).save_as(dir_of(root / "ct" / "c") / f"{n}.dcm", enforce_file_format=True)
    dicom_slice(series_uid(5), 4).save_as(dir_of(root / "bad" / "1005") / "4.dcm", enforce_file_format=True)
    (root / "bad" / "labels.csv").write_text("type,uuid,slice,x,y\nFB,1005,4,3,2\n")
    (root / "manifest.csv").write_text(
        "folder,modality,collection,patient,manufacturer,kernel,note\nct/a,CT,One,P1,,,resampled by a system\n"
        'ct/b,CT,One,P1,,,"a, b"\nct/c,CT,Two,2 patients,,,\nbad,CT,Gan,1 scan,,,\nct/none,CT,Three,P3,,,\n'
    )
    (root / "nodules.csv").write_text("folder,file,x,y,diameter_mm\nct/b,3.dcm,7,6,12.5\n")
    return root


def lidc(root: Path) -> Path:
    """One patient with two readers who marked one nodule and a non-nodule, one patient whose XML lies elsewhere."""
    dicom_series(root / "LIDC-IDRI-0001" / "study" / "series", 1)
    dicom_series(root / "LIDC-IDRI-0002" / "study" / "series", 2)
    outline = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in ((10, 8), (14, 8), (12, 12))
    )

    def roi(k: int, points: str, keep: str = "TRUE") -> str:
        return f"<roi><imageSOP_UID>{sop_uid(1, k)}</imageSOP_UID><inclusion>{keep}</inclusion>{points}</roi>"

    point = "<edgeMap><xCoord>28</xCoord><yCoord>20</yCoord></edgeMap>"
    nodule = f"<unblindedReadNodule>{roi(2, outline)}{roi(3, outline)}{roi(4, point, 'FALSE')}</unblindedReadNodule>"
    small = f"<unblindedReadNodule>{roi(0, point)}</unblindedReadNodule>"
    other = f"<nonNodule><imageSOP_UID>{sop_uid(1, 4)}</imageSOP_UID><locus><xCoord>3</xCoord><yCoord>4</yCoord></locus></nonNodule>"
    one, two = f"<readingSession>{nodule}{small}</readingSession>", f"<readingSession>{nodule}{other}</readingSession>"
    head = f"<ResponseHeader><SeriesInstanceUid>{series_uid(1)}</SeriesInstanceUid></ResponseHeader>"
    text = f'<?xml version="1.0"?><LidcReadMessage xmlns="http://www.nih.gov">{head}{one}{two}</LidcReadMessage>'
    (root / "LIDC-IDRI-0001" / "study" / "series" / "069.xml").write_text(text)
    (dir_of(root / "xml") / "1.xml").write_text("<IdriReadMessage/>")
    return root


def luna16(root: Path) -> Path:
    """One scan with a nodule and candidates, one without."""
    for number in (1, 2):
        name = series_uid(number)
        (dir_of(root / "subset0") / f"{name}.mhd").write_text(
            "ObjectType = Image\nNDims = 3\nDimSize = 32 24 6\nElementSpacing = 0.75 0.5 2.5\nOffset = -10 20 30\n"
            f"TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementType = MET_SHORT\nElementDataFile = {name}.raw\n"
        )
        np.arange(6 * 24 * 32, dtype="<i2").tofile(root / "subset0" / f"{name}.raw")
    place = f"{-10 + 0.75 * 12},{20 + 0.5 * 7},{30 + 2.5 * 4}"
    (root / "annotations.csv").write_text(f"seriesuid,coordX,coordY,coordZ,diameter_mm\n{series_uid(1)},{place},8.5\n")
    false = "".join(f"{series_uid(1)},{-10 + 0.75 * n / 10},20,30,0\n" for n in range(300))
    (root / "candidates.csv").write_text(f"seriesuid,coordX,coordY,coordZ,class\n{series_uid(1)},{place},1\n{false}")
    return root


def lungdx(root: Path) -> Path:
    """One patient with two lesions of boxes, one without; a box file that is none."""
    dicom_series(root / "Lung_Dx-A0001" / "study" / "ct", 1, 8)
    dicom_series(root / "Lung_Dx-G0002" / "study" / "ct", 2)
    for k, (left, top, right, bottom) in {1: (4, 4, 9, 9), 2: (5, 5, 12, 10), 7: (20, 2, 24, 6)}.items():
        box = f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
        text = f"<annotation><object><name>A</name><bndbox>{box}</bndbox></object></annotation>"
        (dir_of(root / "Annotation" / "A0001") / f"{sop_uid(1, k)}.xml").write_text(text)
    (dir_of(root / "Annotation" / "G0002") / f"{sop_uid(2, 0)}.xml").write_text("<annotation><bndbox/></annotation>")
    return root


def images(root: Path) -> Path:
    """Slices of two patients in real/ and fake/ below train/ and test/."""
    for name in (
        "train/Real/1009_76.png",
        "train/Real/1009_77.png",
        "test/Fake/1009_76.png",
        "test/Fake/7794_slice12.png",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    (root / "notes.txt").write_text("x")
    return root


def m3dsynth(root: Path) -> Path:
    """A real scan whose air is 0, an injection whose offset is 2000 and whose mask is longer, one that is not there."""
    rng = np.random.default_rng(0)
    scan = np.where(rng.random((4, 20, 22)) < 0.7, -1000, 40) + rng.integers(-15, 15, (4, 20, 22))
    scan[:, :2] = -1024
    tiffs(root / "real" / "scan" / "LIDC-IDRI-0003__3000611", scan + 1024)
    changed = scan.copy()
    changed[2, 8:12, 9:13] = 60
    tiffs(root / "pix2pix" / "scan" / "inj_1", np.maximum(changed, -2000) + 2000)
    mask = np.zeros((6, 20, 22), dtype=bool)
    mask[:4] = changed != scan
    tiffs(root / "pix2pix" / "label" / "inj_1", mask)
    (root / "data.csv").write_text(
        "img_id,ty,mod,orig_id,sdir_id,coord_z,coord_y,coord_x\nrem_1,rem,real,LIDC-IDRI-0003,3000611,1,5,6\n"
        "inj_1,inj,pix2pix,LIDC-IDRI-0003,3000611,2,10,11\ninj_2,inj,cycle,LIDC-IDRI-0003,3000611,2,10,11\n"
    )
    return root


def tiffs(folder: Path, scan: np.ndarray) -> None:
    dir_of(folder)
    for k, plane in enumerate(scan):
        image = Image.fromarray(plane if plane.dtype == bool else plane.astype(np.uint16))
        image.save(folder / f"slide{k:04d}.tiff")
