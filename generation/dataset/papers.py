def write_papers(folder):
    for n in ("croissant.json", "DATASHEET.md", "README.md"):
        (folder / n).write_text("x")
