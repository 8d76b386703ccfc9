"""``consilium-site doctor``: named checks of machine, kit, identity, network and data, each with its remedy.

Nothing is changed and nothing leaves the machine but the connections a site makes anyway.
"""

from site_kits.agent.doctor.checks import CHECKS
from site_kits.agent.doctor.examination import Check, Finding, Outcome, Patient, examine

__all__ = ["CHECKS", "Check", "Finding", "Outcome", "Patient", "examine"]
