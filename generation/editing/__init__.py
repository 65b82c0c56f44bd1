"""Editing: another expression for the faces of a photo or video, at its own resolution, always marked."""
