"""All checks in the order in which one looks for a fault."""

from site_kits.agent.doctor import data, kit, machine, network, witness
from site_kits.agent.doctor.examination import Check
from site_kits.translation import noted as _n

SPLIT = ("data_registered", "data_rows")
KIT = ("folder_path", "kit_files", "site_json", "root_certificate")

CHECKS: tuple[Check, ...] = (
    Check("python", _n("Python"), machine.python),
    Check("packages", _n("packages"), machine.packages),
    Check("folder_path", _n("path of the folder"), machine.folder_path),
    Check("folder_rights", _n("right to write"), machine.folder_rights),
    Check("disk", _n("disk"), machine.disk),
    Check("memory", _n("memory"), machine.memory),
    Check("open_files", _n("open files"), machine.open_files),
    Check("graphics_card", _n("graphics card"), machine.graphics_card),
    Check("prediction_port", _n("port for predictions"), machine.prediction_port),
    Check("log_size", _n("size of the logs"), machine.log_size),
    Check("kit_files", _n("files of the kit"), kit.kit_files),
    Check("site_json", _n("site.json and its policy"), kit.site_json, ("kit_files",)),
    Check("policy", _n("the site's policy"), kit.policy),
    Check("root_certificate", _n("root certificate"), kit.root_certificate, ("site_json",)),
    Check("enrolment", _n("enrolment"), kit.enrolment, KIT),
    Check("private_key", _n("private key"), kit.private_key),
    Check("certificate", _n("certificate"), kit.certificate, (*KIT, "private_key")),
    Check("certificate_days", _n("certificate's days"), kit.certificate_days, ("certificate",)),
    Check("pinned_keys", _n("pinned keys"), kit.pinned_keys),
    Check("witness_key", _n("key of the witness"), witness.key, ("site_json",)),
    Check("portal_log", _n("portal's log"), witness.log),
    Check("portal_name", _n("portal's name"), network.portal_name, KIT, is_local=False),
    Check("proxy", _n("proxy"), network.proxy, KIT, is_local=False),
    Check("portal_port", _n("way to the portal"), network.portal_port, ("portal_name",), is_local=False),
    Check(
        "portal_certificate", _n("portal's certificate"), network.portal_certificate, ("portal_port",),
        is_local=False,
    ),
    Check("portal", _n("portal"), network.portal, KIT, is_local=False),
    Check("clock", _n("clock"), machine.clock, ("portal",), is_local=False),
    Check("training_name", _n("training server's name"), network.training_name, KIT, is_local=False),
    Check(
        "training_port", _n("way to the training server"), network.training_port, ("training_name",),
        is_local=False,
    ),
    Check(
        "training_certificate", _n("training server's certificate"), network.training_certificate,
        ("training_port",), is_local=False,
    ),
    Check("data", _n("data"), data.present),
    Check("data_manifests", _n("manifests of the data"), data.manifests),
    Check("data_rows", _n("rows of the data"), data.rows, ("data_manifests",)),
    Check("data_files", _n("images of the data"), data.files, ("data_rows",)),
    Check("data_registered", _n("registration of the data"), data.registered, ("data_manifests",)),
    Check("data_patients", _n("patients across the split"), data.patients, SPLIT),
    Check("data_duplicates", _n("same cases across the split"), data.duplicates, SPLIT),
    Check("label_counts", _n("counts of the labels"), data.label_counts, SPLIT),
)  # fmt: skip
# before every start: what the agent cannot put right itself, in a second; it enrols and registers after
BEFORE_START = tuple(
    check for check in CHECKS if check.is_local and not check.code.startswith(("data", "label", "enrolment"))
)
