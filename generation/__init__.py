"""The red team: faces, reenactors, forgeries. Never imports `detection`."""
