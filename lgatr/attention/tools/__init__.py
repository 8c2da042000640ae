"""Tables of what backends can do, and measurements of which is fastest here."""
