"""``consilium-site``: enrol, run, register, status, doctor and more, for who looks after the site."""

import argparse
import logging
import os
import sys
from pathlib import Path

from fl_jobs.errors import DataError
from site_kits.agent import approval_commands, invitation, leaving, peers, preflight, service, witness_command
from site_kits.agent.datasets import data_folders, describe, register_folder, said
from site_kits.agent.doctor import command as doctor
from site_kits.agent.logs import log_to
from site_kits.agent.passphrase import new_passphrase
from site_kits.agent.run import Agent, StopRequestedError, stop_on_signals
from site_kits.agent.site_acts import log_act
from site_kits.agent.status import render_status
from site_kits.errors import SiteKitError
from site_kits.site_home import SiteHome
from site_kits.translation import _

EXIT_REFUSED = 2


def main(arguments: list[str] | None = None) -> int:
    """Parse, do, and answer with 0, 1 (something is not in order) or 2 (a sentence says what to do)."""
    parsed = _parser().parse_args(arguments)
    home = SiteHome(Path(parsed.home))
    try:
        return int(parsed.command(home, parsed))
    except DataError as exc:
        sys.stderr.write(f"{said(exc)}\n")
    except SiteKitError as exc:
        sys.stderr.write(f"{exc}\n")
    except PermissionError as exc:
        sys.stderr.write(
            _("No permission for {file}; run as the user who owns the folder.\n").format(file=exc.filename)
        )
    except OSError as exc:
        sys.stderr.write(
            _("The file system refused: {reason} ({file}).\n").format(reason=exc.strerror, file=exc.filename)
        )
    return EXIT_REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="consilium-site", description=_("Runs this site of the federation.")
    )
    home = os.environ.get("CONSILIUM_SITE_HOME") or "."
    parser.add_argument("--home", default=home, help=_("folder of the unpacked kit (default: this one)"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help=_("bring the site up and keep it up"))
    run.add_argument("link", nargs="?", metavar="LINK", help=_("the link of the invitation"))
    invitation.add_pin_option(run)
    run.set_defaults(command=_run)
    invitation.add_command(commands)
    register = commands.add_parser(
        "register", help=_("register data folders, share their counts and show them")
    )
    register.add_argument("names", nargs="*", metavar="NAME", help=_("folder below data/ (default: all)"))
    register.set_defaults(command=_register)
    commands.add_parser(
        "console-password", help=_("a new passphrase for this site's console; the old one ends")
    ).set_defaults(command=_console_password)
    commands.add_parser("status", help=_("how the site is doing")).set_defaults(command=_status)
    doctor.add_command(commands)
    peers.add_commands(commands)
    witness_command.add_command(commands)
    service.add_command(commands)
    approval_commands.add_commands(commands)
    leaving.add_command(commands)
    return parser


def _run(home: SiteHome, parsed: argparse.Namespace) -> int:
    preflight.load_manifest(home)  # before a folder is made where no kit is
    log_to(home)
    agent = Agent(home, link=parsed.link, pin_file=parsed.pin_file)
    stop_on_signals(agent)
    try:
        agent.run()
    except StopRequestedError as exc:
        logging.getLogger("consilium.site").info("%s", exc)
    return 0


def _register(home: SiteHome, parsed: argparse.Namespace) -> int:
    preflight.load_manifest(home)
    names = parsed.names or data_folders(home)
    if elsewhere := [name for name in names if Path(name).name != name]:
        raise DataError(
            _("“{name}” is not a folder below {folder}. Give its name without a path.").format(
                name=elsewhere[0], folder=home.data
            )
        )
    if not names:
        sys.stdout.write(_("No folder with a manifest.json lies below {folder}.\n").format(folder=home.data))
        return 1
    failures = 0
    for name in names:
        try:
            sys.stdout.write(f"{name}: {describe(register_folder(home, name))}\n")
        except DataError as exc:
            failures += 1
            sys.stderr.write(f"{name}: {said(exc)}\n")
    return 1 if failures else 0


def _console_password(home: SiteHome, _parsed: argparse.Namespace) -> int:
    preflight.load_manifest(home)
    log_act(home, "passphrase.changed")
    sys.stdout.write(_("Passphrase of the console, shown this once: {w}").format(w=new_passphrase(home)))
    sys.stdout.write("\n")
    return 0


def _status(home: SiteHome, _parsed: argparse.Namespace) -> int:
    text, good = render_status(home)
    sys.stdout.write(text + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
