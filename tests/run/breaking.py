"""Stages that misbehave as their sample's raw bytes tell them; for the tests of the sandbox only."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from mmdata.errors import Reason, SampleError
from mmdata.run.child import LENGTH
from mmdata.sample import Sample, child_key
from mmdata.stage import Resources

BREAKS = "tests.run.breaking:Breaks"
CUTS = "tests.run.breaking:Cuts"
_kept: list[bytearray] = []


@dataclass
class Breaks:
    """Does what the raw bytes say: a word, and after a colon what it works on. Other bytes pass unchanged."""

    name: ClassVar[str] = "breaks"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"image_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"raw"})
    writes: ClassVar[frozenset[str]] = frozenset({"pid"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    mark: str = ""
    batch_size: int = 16

    def setup(self) -> None:
        self.marked = self.mark.upper()

    def process(self, samples: list[Sample]) -> list[Sample]:
        for sample in samples:
            word, _, rest = sample.parts["raw"][:200].decode("latin-1").partition(":")
            getattr(self, f"do_{word}", lambda *_: None)(sample, rest)
            sample.columns |= {"pid": os.getpid(), "mark": self.marked}
        return samples

    def do_signal(self, _sample: Sample, name: str) -> None:
        os.kill(os.getpid(), signal.Signals[name])

    def do_exit(self, _sample: Sample, code: str) -> None:
        os._exit(int(code))

    def do_hang(self, _sample: Sample, _rest: str) -> None:
        time.sleep(3600)

    def do_hang_closed(self, _sample: Sample, _rest: str) -> None:
        os.closerange(0, 64)
        time.sleep(3600)

    def do_memory(self, _sample: Sample, megabytes: str) -> None:
        bytearray(int(megabytes) << 20)

    def do_leak(self, _sample: Sample, megabytes: str) -> None:
        _kept.append(bytearray(int(megabytes) << 20))

    def do_answer(self, sample: Sample, megabytes: str) -> None:
        sample.parts["jpg"] = bytes(int(megabytes) << 20)

    def do_raise(self, _sample: Sample, text: str) -> None:
        raise RuntimeError(text)

    def do_corrupt(self, _sample: Sample, text: str) -> None:
        raise SampleError(Reason.CORRUPT, text)

    def do_print(self, _sample: Sample, text: str) -> None:
        print(text * 1000, flush=True)
        os.write(1, text.encode() * 1000)

    def do_write(self, sample: Sample, path: str) -> None:
        try:
            with open(path, "wb") as file:
                file.write(b"1")
        except OSError as error:
            sample.columns["errno"] = error.errno

    def do_environment(self, sample: Sample, _rest: str) -> None:
        sample.columns["environment"] = dict(os.environ)
        sample.columns["folder"] = os.getcwd()

    def do_array(self, sample: Sample, _rest: str) -> None:
        sample.columns["not_plain"] = {1, 2}

    def do_nonsense(self, _sample: Sample, text: str) -> None:
        """As a decoder that a hostile file took over: bytes of its own on the pipe of the answers."""
        answers: Any = {
            "text": b"\x00\x00\x00\x04{}{}",
            "list": b"\x00\x00\x00\x02[]",
            "long": LENGTH.pack(2**32 - 1),
            "part": _message(["pictures-000000000001", {}, "ok", "", [["jpg", 9_000_000_000]]]),
            "minus": _message(["pictures-000000000001", {}, "ok", "", [["jpg", -9]]]),
            "other": _message(["pictures-000000000004", {}, "ok", "", []]),
            "reason": _message(["pictures-000000000001", {}, "fine", "", []]),
            "none": _message(),
            "names": _message(["pictures-000000000001", {}, "ok", "", []], stages="breaks"),
            "counts": _message(["pictures-000000000001", {}, "ok", "", []], stages={"breaks": [1, 1, "many", 0, 0.1]}),
        }
        for descriptor in range(3, 10):
            try:
                os.write(descriptor, answers[text])
            except OSError:
                continue
        time.sleep(3600)


def _message(*samples: list[Any], stages: Any = ()) -> bytes:
    header = json.dumps({"samples": samples, "stages": stages or {}}).encode()
    return LENGTH.pack(len(header)) + header


@dataclass
class Cuts:
    """Cuts every sample into as many children as it has raw bytes; an empty one stays whole."""

    name: ClassVar[str] = "cuts"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset({"image_text"})
    reads: ClassVar[frozenset[str]] = frozenset({"raw"})
    writes: ClassVar[frozenset[str]] = frozenset()
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    batch_size: int = 16

    def setup(self) -> None:
        assert sys.flags.isolated

    def process(self, samples: list[Sample]) -> list[Sample]:
        return [
            Sample(child_key(sample.key, index), {"raw": bytes([byte])}, dict(sample.columns))
            for sample in samples
            for index, byte in enumerate(sample.parts["raw"])
        ] or samples
