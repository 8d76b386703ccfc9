"""DICOM files made here: small grey images of invented patients, whose names are needles to search for."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

NEEDLES = ("Wang^Fang", "MRN000", "Hospital of Needles", "Li^Wei")
SIZE = 64


def pixels(number: int, *, is_opaque: bool) -> np.ndarray:
    """A bright disc on a dark ground, with a smaller one inside where ``is_opaque``; 12 bits."""
    generator = np.random.default_rng(number)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    image = 300 + 2200 * (x**2 + y**2 < 26**2) + generator.normal(0, 120, (SIZE, SIZE))
    if is_opaque:
        dx, dy = generator.integers(-10, 10, 2)
        image += 1200 * ((x - dx) ** 2 + (y - dy) ** 2 < 8**2)
    return np.clip(image, 0, 4095).astype("<u2")


def dicom(number: int, *, is_opaque: bool = False, **changes: object) -> Dataset:
    """One image with what a hospital's archive writes into the header."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID = f"Wang^Fang{number}", f"MRN000{number // 2}"
    data.PatientBirthDate, data.StudyDate, data.Modality = "19700101", "20240301", "CR"
    data.InstitutionName, data.ReferringPhysicianName = "Hospital of Needles", "Li^Wei"
    data.StudyInstanceUID = generate_uid()
    request = Dataset()
    request.RequestingPhysician = "Li^Wei"
    data.RequestAttributesSequence = [request]
    data.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "Wang^Fang")
    data.Rows = data.Columns = SIZE
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.PixelData = pixels(number, is_opaque=is_opaque).tobytes()
    for name, value in changes.items():
        setattr(data, name, value)
    return data


def write_dicom(path: Path, data: Dataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def write_dicom_folder(folder: Path, count: int = 60) -> None:
    """Two labels as subfolders; two images a patient; one file says that text is burned into its pixels."""
    for number in range(count):
        is_opaque = number // 2 % 3 == 0
        changes = {"BurnedInAnnotation": "YES"} if number == 7 else {}
        name = f"{'opacity' if is_opaque else 'normal'}/{number:03d}.dcm"
        write_dicom(folder / name, dicom(number, is_opaque=is_opaque, **changes))
