"""Controlled data sets: planned, made, marked and described; and in the layouts that others read."""
