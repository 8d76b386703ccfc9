"""``consilium-site service``: a systemd unit, so that the site comes up again when the machine does."""

import argparse
import getpass
import os
import sys

from site_kits.agent.preflight import load_manifest
from site_kits.site_home import SiteHome
from site_kits.translation import _

UNIT = """\
[Unit]
Description=Consilium site {site}
Wants=network-online.target
After=network-online.target

[Service]
User={user}
WorkingDirectory={home}
{environment}ExecStart=/bin/bash {home}/start.sh
Restart=always
RestartSec=10
# start.sh ends with 2 when only a person can help: trying again would hide the sentence
RestartPreventExitStatus=2
KillMode=mixed
TimeoutStopSec=30
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=full

[Install]
WantedBy=multi-user.target
"""
PASSED_ON = ("CONSILIUM_PYTHON", "CONSILIUM_DEVICE", "https_proxy", "no_proxy")


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("service", help=_("write a systemd unit that starts the site at boot"))
    parser.set_defaults(command=write_unit)


def write_unit(home: SiteHome, _parsed: argparse.Namespace) -> int:
    """Write the unit into the site's folder and say how an administrator of the machine installs it."""
    manifest = load_manifest(home)
    path = home.root / f"consilium-{manifest.site}.service"
    path.write_text(unit_text(home, manifest.site, getpass.getuser()), encoding="utf-8")
    sys.stdout.write(
        _(
            "Written: {path}\nAs root, once:\n  cp {path} /etc/systemd/system/\n"
            "  systemctl enable --now {unit}\nStop this site here first, if it is running. "
            "Later: systemctl status {unit}, journalctl -u {unit}\n"
        ).format(path=path, unit=path.name)
    )
    return 0


def unit_text(home: SiteHome, site: str, user: str) -> str:
    """The unit. start.sh refuses folders with spaces or quotes; a % would be one of systemd's specifiers."""
    folder = str(home.root).replace("%", "%%")
    lines = [
        f'Environment="{name}={_quoted(os.environ[name])}"\n' for name in PASSED_ON if os.environ.get(name)
    ]
    return UNIT.format(site=site, user=user, home=folder, environment="".join(lines))


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
