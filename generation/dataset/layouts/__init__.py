def export_layout(name, source, to, progress):
    raise NotImplementedError
