"""A DICOM data set → a keyed hash of each attribute that no archive may change (F1). Confined child only.

What stands below is the published list of what an archive, a gateway or a de-identification may change without being
noticed here. Values are hashed in a form that does not depend on transfer syntax, padding or character set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from jachai.ledger.digests import ATTRIBUTE_BYTES, keyed

_CHANGEABLE_TEXT = """
    SpecificCharacterSet InstanceCreationDate InstanceCreationTime InstanceCreatorUID InstanceCoercionDateTime
    TimezoneOffsetFromUTC RetrieveAETitle StationAETitle InstanceAvailability StorageMediaFileSetID
    StorageMediaFileSetUID IconImageSequence LengthToEnd
    PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence TypeOfPatientID PatientBirthDate
    PatientBirthTime PatientSex PatientAge PatientSize PatientWeight PatientBirthName PatientMotherBirthName
    PatientAddress PatientTelephoneNumbers PatientTelecomInformation OtherPatientIDs OtherPatientIDsSequence
    OtherPatientNames EthnicGroup EthnicGroupCodeSequence EthnicGroups Occupation PatientComments
    AdditionalPatientHistory MedicalRecordLocator MilitaryRank BranchOfService CountryOfResidence RegionOfResidence
    PatientReligiousPreference PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription
    PatientBreedCodeSequence BreedRegistrationSequence ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization
    PatientInsurancePlanCodeSequence PatientPrimaryLanguageCodeSequence PatientState SmokingStatus PregnancyStatus
    LastMenstrualDate MedicalAlerts Allergies SpecialNeeds PatientSexNeutered QualityControlSubject
    SourcePatientGroupIdentificationSequence GroupOfPatientsIdentificationSequence
    AdmissionID IssuerOfAdmissionIDSequence AdmittingDate AdmittingTime AdmittingDiagnosesDescription
    AdmittingDiagnosesCodeSequence CurrentPatientLocation PatientInstitutionResidence VisitComments VisitStatusID
    RouteOfAdmissions ServiceEpisodeID ServiceEpisodeDescription IssuerOfServiceEpisodeIDSequence
    ReasonForVisit ReasonForVisitCodeSequence
    AccessionNumber IssuerOfAccessionNumberSequence StudyID StudyDescription ProcedureCodeSequence
    ReferringPhysicianName ReferringPhysicianAddress ReferringPhysicianTelephoneNumbers
    ReferringPhysicianIdentificationSequence ConsultingPhysicianName ConsultingPhysicianIdentificationSequence
    PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy
    PhysiciansReadingStudyIdentificationSequence PerformingPhysicianName PerformingPhysicianIdentificationSequence
    OperatorsName OperatorIdentificationSequence RequestingService RequestingServiceCodeSequence RequestingPhysician
    RequestedProcedureDescription RequestedProcedureCodeSequence RequestedProcedureID RequestedProcedurePriority
    ReasonForTheRequestedProcedure ReasonForRequestedProcedureCodeSequence RequestAttributesSequence
    ScheduledProcedureStepID ScheduledProcedureStepDescription PerformedProcedureStepID
    PerformedProcedureStepDescription PerformedProcedureStepStartDate PerformedProcedureStepStartTime
    PerformedProcedureStepEndDate PerformedProcedureStepEndTime PerformedProtocolCodeSequence
    CommentsOnThePerformedProcedureStep PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest
    InstitutionName InstitutionAddress InstitutionCodeSequence InstitutionalDepartmentName
    InstitutionalDepartmentTypeCodeSequence StationName DeviceSerialNumber DeviceUID GantryID
    PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence
    EncryptedAttributesSequence OriginalAttributesSequence ContributingEquipmentSequence ModifiedAttributesSequence
    LongitudinalTemporalInformationModified ClinicalTrialSponsorName ClinicalTrialProtocolID
    ClinicalTrialProtocolName ClinicalTrialSiteID ClinicalTrialSiteName ClinicalTrialSubjectID
    ClinicalTrialSubjectReadingID ClinicalTrialTimePointID ClinicalTrialTimePointDescription
    ClinicalTrialCoordinatingCenterName ClinicalTrialProtocolEthicsCommitteeName
    ClinicalTrialProtocolEthicsCommitteeApprovalNumber
    DigitalSignaturesSequence MACParametersSequence DataSetTrailingPadding PixelData
"""
CHANGEABLE = frozenset(_CHANGEABLE_TEXT.split())
"""By keyword. Besides: private attributes, group 0002, group lengths, UIDs other than SOP Class, and references."""
REFERENCES = ("Referenced", "Source", "RelatedSeries", "StudiesContaining", "PrincipalDiagnosis")
"""How the names of sequences begin that refer to other objects by UID."""
SOP_CLASS = 0x00080016
MASK_16 = 0xFFFF


def attribute_digests(data_set: Dataset, secret: bytes) -> dict[int, bytes]:
    """Tag → keyed hash of its value, of every top-level attribute that must stay as it is, by rising tag."""
    return {tag: keyed(secret, "attribute", form, ATTRIBUTE_BYTES) for tag, form in _forms(data_set)}


def may_change(tag: int, vr: str) -> bool:
    """May an archive change this attribute unnoticed?"""
    group, keyword = tag >> 16, keyword_for_tag(tag)
    if group == 0x0002 or group % 2 or not tag & MASK_16 or keyword in CHANGEABLE:
        return True
    if vr == "UI":
        return tag != SOP_CLASS
    return vr == "SQ" and keyword.startswith(REFERENCES)


def _forms(data_set: Dataset) -> Iterator[tuple[int, bytes]]:
    for tag in sorted(int(tag) for tag in data_set.keys()):  # noqa: SIM118 iterating converts every value
        vr, value = _value(data_set, tag)
        if not may_change(tag, vr):
            yield tag, tag.to_bytes(4, "big") + _canonical(vr, value)


def _value(data_set: Dataset, tag: int) -> tuple[str, Any]:
    """VR and value; the bytes as they are where they do not fit their VR."""
    try:
        element = data_set[tag]
    except Exception:  # noqa: BLE001 a stranger's value: pydicom raises anything; its bytes are hashed instead
        raw = data_set.get_item(tag)
        return "UN", b"" if raw is None else raw.value
    return element.VR, element.value


def _canonical(vr: str, value: Any) -> bytes:
    if vr == "SQ":
        items = (b"".join(form for _, form in _forms(item)) for item in value or ())
        return b"".join(b"(" + len(item).to_bytes(4, "big") + item for item in items)
    if isinstance(value, bytes):
        return _unpadded(value) if vr not in ("US or SS", "US or OW", "US or SS or OW") else _words(value)
    return "\\".join(_text(vr, one) for one in _several(value)).encode("utf-8", "replace")


def _several(value: Any) -> Iterable[Any]:
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) or not isinstance(value, Iterable) else value


def _text(vr: str, value: Any) -> str:
    if vr in ("US", "SS", "US or SS", "US or OW", "US or SS or OW"):
        return str(int(value) & MASK_16)  # headers confuse the two
    if vr in ("DS", "IS"):
        try:
            return str(Decimal(str(value).strip()).normalize())
        except InvalidOperation:
            return str(value).strip()
    return repr(float(value)) if vr in ("FL", "FD") else str(value).strip("\0 ")


def _words(value: bytes) -> bytes:
    return "\\".join(str(int.from_bytes(value[n : n + 2], "little")) for n in range(0, len(value), 2)).encode()


def _unpadded(value: bytes) -> bytes:
    return value[:-1] if value.endswith(b"\0") else value
