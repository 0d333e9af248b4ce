"""What waits to be published: attributes in files without names, so that those of one target take no memory while the next is worked on."""

from __future__ import annotations

import logging
import mmap
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

#: Bytes below which attributes stay where they are.
LEAST = 64_000_000


def staged(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The same attributes; texts and reasons, which are most of them, are read from a file in `folder` when somebody looks at them.

    Nobody else sees the file. It goes with the last frame that reads it, and with the process, however that ends. Few attributes stay in
    memory, and all of them where the folder has no room.
    """
    from persopredict.attributes import to_arrow, to_frame

    table = to_arrow(frame)
    if table.nbytes < LEAST:
        return frame
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        _log.warning("attributes that wait to be published stay in memory, %s: %s", folder, error.strerror)
        return frame
    return to_frame(pa.ipc.open_file(pa.py_buffer(mapped)).read_all())


def release() -> None:
    """Give back what Arrow keeps in reserve of the memory that scoring took: it does so only when it is asked to."""
    pa.default_memory_pool().release_unused()
