import pytest
from cryptography import x509

from platform_web.audit.models import AuditEvent
from platform_web.federation import authority, founding
from platform_web.federation.models import ServiceIdentity, TicketKey
from site_kits.errors import MasterKeyError
from site_kits.tickets import issue_ticket, load_public_key, new_claims, verify_ticket


def test_there_are_two_service_identities_with_their_roles(portal):
    roles = {row.name: row.role for row in ServiceIdentity.objects.all()}
    assert roles == {"ops": "project_admin", "runs": "lead"}
    for identity in ServiceIdentity.objects.all():
        assert b"PRIVATE KEY" not in bytes(identity.key_sealed)
        assert b"PRIVATE KEY" in authority.open_identity_key(identity)


def test_founding_again_changes_nothing_but_addresses(portal, settings):
    settings.CONSILIUM_FLARE_PORT = 9999
    again = founding.found_federation()
    assert again.root_certificate_pem == portal.root_certificate_pem
    assert again.flare_port == 9999
    assert TicketKey.objects.count() == 1
    assert AuditEvent.objects.filter(act="platform.set_up").count() <= 1


def test_another_master_key_founds_nothing(portal, settings):
    settings.CONSILIUM_MASTER_KEY = b"w" * 32
    with pytest.raises(MasterKeyError):
        founding.found_federation()


def test_tickets_are_signed_with_a_key_whose_public_half_sites_get(portal):
    kid, key = authority.open_ticket_key()
    ticket = issue_ticket(key, kid, new_claims(site="site-a", study="s", promotion=1, subject="x", now=1000))
    keys = {entry.kid: load_public_key(entry.public_key) for entry in authority.public_ticket_keys()}
    assert verify_ticket(keys, ticket, site="site-a", now=1001).promotion == 1


def test_the_root_key_opens_and_fits_its_certificate(portal):
    key, certificate = authority.open_root(portal)
    assert key.public_key() == certificate.public_key()


def test_server_files_are_kept_while_they_fit_and_made_anew_for_another_host(portal, home):
    founding.write_files(portal)
    first = (home / "tls" / "agents.crt").read_bytes()
    founding.write_files(portal)
    assert (home / "tls" / "agents.crt").read_bytes() == first
    portal.agents_url = "https://portal.example:8443"
    founding.write_files(portal)
    certificate = x509.load_pem_x509_certificate((home / "tls" / "agents.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "portal.example" in names.get_values_for_type(x509.DNSName)
    assert (home / "flare" / "server" / "startup" / "server.key").stat().st_mode & 0o077 == 0
