"""The Chinese catalogues, kept without the gettext tools: read the sources, keep the .po, write the .mo."""
