"""What an evidence pack is made of: archive, signed statements, bill of materials, cards and drafts."""
