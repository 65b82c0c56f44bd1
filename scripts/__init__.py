"""The composition root: the commands, and the only place that imports both sides."""
