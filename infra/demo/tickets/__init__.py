"""Requests of citizens to six hotlines, in Chinese: made by a grammar of this project, none of them real."""

from infra.demo.tickets.grammar import DEPARTMENTS, PROVINCES, Ticket, routing, write_tickets

__all__ = ["DEPARTMENTS", "PROVINCES", "Ticket", "routing", "write_tickets"]
