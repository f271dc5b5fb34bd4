"""A record of calls, for assertions: a JSON document a line."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any


class Log:
    """Kept in memory, and written to a file if there is one."""

    def __init__(self, path: Path | None = None) -> None:
        self.records: list[dict[str, Any]] = []
        self._file = path.open("a") if path else None
        self._lock = threading.Lock()

    def write(self, kind: str, **fields: Any) -> None:
        record = {"time": time.time(), "kind": kind, **fields}
        with self._lock:
            if self._file is None:
                self.records.append(record)
            else:
                self._file.write(json.dumps(record) + "\n")
                self._file.flush()
