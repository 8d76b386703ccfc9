"""The kit as one zip: same contents, same bytes. It holds no secret.

The site makes its own key and proves itself with the link and the PIN its operator was told.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from site_kits.errors import ProvisioningError
from site_kits.manifest import KitManifest

TEMPLATES = Path(__file__).with_name("templates")
_WHEN = (2020, 1, 1, 0, 0, 0)  # a fixed time, so that equal contents give equal archives
_EXECUTABLE, _PLAIN, _FOLDER = 0o100755, 0o100644, 0o040755
_KEY_SUFFIXES = {".key", ".p12", ".pfx"}


def write_kit_archive(
    path: Path, *, manifest: KitManifest, flare_folder: Path, wheel: Path, constraints: Path
) -> None:
    """Write the kit of ``manifest.site`` to ``path`` (0600: addresses are nobody else's business).

    ``flare_folder`` is what ``write_site_kit_files`` wrote. The archive appears whole or not at all.
    Raises ProvisioningError when a part is missing or a key lies among the files.
    """
    for part, purpose in ((wheel, "CONSILIUM_WHEEL"), (constraints, "CONSILIUM_CONSTRAINTS")):
        if not part.is_file():
            raise ProvisioningError(f"{part} does not exist; set {purpose} to the file the kit shall carry.")
    members = sorted(_members(manifest, flare_folder, wheel, constraints))
    temporary = path.with_suffix(".part")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, mode, content in members:
            entry = zipfile.ZipInfo(name, date_time=_WHEN)
            entry.create_system = 3  # Unix, so that unzip keeps the modes
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_STORED if name.endswith((".whl", "/")) else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    temporary.replace(path)


def _members(
    manifest: KitManifest, flare_folder: Path, wheel: Path, constraints: Path
) -> Iterator[tuple[str, int, bytes]]:
    yield "start.sh", _EXECUTABLE, _template("start.sh")
    yield "README.txt", _PLAIN, _template("README.txt").replace(b"{site}", manifest.site.encode())
    yield "site.json", _PLAIN, manifest.model_dump_json(indent=2).encode() + b"\n"
    yield "rootCA.pem", _PLAIN, _read(flare_folder / "startup" / "rootCA.pem")
    yield "constraints.txt", _PLAIN, constraints.read_bytes()
    yield f"wheel/{wheel.name}", _PLAIN, wheel.read_bytes()
    yield "data/", _FOLDER, b""
    for part in ("startup", "local"):
        for file in sorted((flare_folder / part).rglob("*")):
            if file.suffix in _KEY_SUFFIXES:
                raise ProvisioningError(
                    f"{file.name} is a key; a kit holds none. Make the kit's files again."
                )
            if file.is_file():
                name = f"flare/{file.relative_to(flare_folder).as_posix()}"
                yield name, _EXECUTABLE if file.suffix == ".sh" else _PLAIN, file.read_bytes()


def _template(name: str) -> bytes:
    return _read(TEMPLATES / name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ProvisioningError(
            f"{path.name} is missing, so no kit was made; write the site's files first."
        ) from error
