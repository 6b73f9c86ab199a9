"""Run a command while the demo's server serves: `python -m pipelines.demo.serve -- mmdata run pipelines/demo.yaml`.

The port is any free one; the command is told by an override of the operational `fetch.connect_to`, so that no byte of
the output depends on it. Ends as the command ends.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from types import FrameType

from pipelines.demo.server import DemoServer

HOST = "media.example"


def main() -> int:
    words = sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]
    if not words:
        print(__doc__, file=sys.stderr)
        return 2
    with DemoServer(0) as port:
        override = f'fetch.connect_to={{"{HOST}": "127.0.0.1:{port}"}}'
        # Before the options: an override is a positional argument of the command.
        first_option = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
        command = subprocess.Popen([*words[:first_option], override, *words[first_option:]])

        def pass_on(number: int, _frame: FrameType | None) -> None:
            command.send_signal(number)

        # A terminal sends its own interrupt to both; a terminate is for this process alone and must be passed on.
        signal.signal(signal.SIGTERM, pass_on)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return command.wait()


if __name__ == "__main__":
    code = main()
    sys.exit(code if code >= 0 else 128 - code)
