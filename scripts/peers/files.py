"""What the programs on libraries share: pieces of 1 MiB, and trees of one folder."""

import pathlib

PIECE_LEN = 1 << 20


def pairs(source, target):
    """Each file to read with the one to write: one, or all of a folder."""
    source, target = pathlib.Path(source), pathlib.Path(target)
    if not source.is_dir():
        return [(source, target)]
    target.mkdir()
    return [(path, target / path.name) for path in sorted(source.iterdir())]


def copy(reader, writer):
    while piece := reader.read(PIECE_LEN):
        writer.write(piece)
