"""What `sfbench doctor` asks of other processes, torch first of all: they run meanwhile.

Nothing is imported here but the standard library, so that the command can start the slowest look
before it imports the rest of itself.
"""

from __future__ import annotations

import json
import subprocess

SECONDS = 120
"""After so long an import that hangs is given up."""

LOOK_AT_TORCH = """
import json, torch
cuda = torch.cuda
found = cuda.is_available()
names = [(cuda.get_device_name(i), *cuda.mem_get_info(i)) for i in range(cuda.device_count())]
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda,
                  "threads": torch.get_num_threads(), "devices": names if found else []}))
"""


class Child:
    """A command that runs meanwhile."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._answer: dict[str, object] | None = None

    def text(self) -> str:
        """What it printed; an :class:`OSError` with its last line if it failed."""
        try:
            out, err = self._process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise OSError(f"no answer within {SECONDS} s") from None
        if code := self._process.returncode:
            raise OSError((err.strip().splitlines() or [f"it ended with code {code}"])[-1])
        return out.strip()

    def read(self) -> dict[str, object]:
        """What it printed as JSON, or ``error``; asked twice, it is the same."""
        if self._answer is None:
            try:
                self._answer = json.loads(self.text())
            except (OSError, ValueError) as error:
                self._answer = {"error": str(error)}
        return self._answer

    def close(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
