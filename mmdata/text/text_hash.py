"""Stage text_hash: hashes by which equal and nearly equal captions are found. Shapes: N shingles, B bits.

All arithmetic is on whole numbers modulo 2^64, so a hash is the same on every machine and in every version of Python.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from mmdata.options import operational, semantic
from mmdata.sample import Sample
from mmdata.shards.ledger import MODALITIES
from mmdata.stage import Resources

_NOT_WORD = re.compile(r"[\W_]+")
_PRIME = np.uint64(0x100000001B3)  # of the FNV hash
# The finaliser of splitmix64 (Steele, Lea and Flood 2014): every bit of the input reaches every bit of the output.
_MIX = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST_SHIFT = np.uint64(31)


@dataclass(kw_only=True)
class TextHash:
    """caption_hash: equal for captions that differ in case, width, marks and white space only. uint64.

    caption_simhash: 64-bit SimHash (Charikar 2002) over runs of `shingle_chars` characters; captions with few bits of
    difference share most of their words. uint64. Both are none for a caption without letters or digits.
    """

    name: ClassVar[str] = "text_hash"
    version: ClassVar[int] = 1
    modalities: ClassVar[frozenset[str]] = frozenset(MODALITIES)
    reads: ClassVar[frozenset[str]] = frozenset({"caption"})
    writes: ClassVar[frozenset[str]] = frozenset({"caption_hash", "caption_simhash"})
    isolated: ClassVar[bool] = True
    resources: ClassVar[Resources] = Resources()

    shingle_chars: Annotated[int, at.Ge(1), at.Le(16)] = semantic(4)
    batch_size: Annotated[int, at.Ge(1)] = operational(16)

    def setup(self) -> None: ...

    def process(self, samples: list[Sample]) -> list[Sample]:
        for sample in samples:
            folded = fold(sample.columns.get("caption") or "")
            sample.columns["caption_hash"] = hash_of(folded) if folded else None
            sample.columns["caption_simhash"] = simhash(folded, self.shingle_chars) if folded else None
        return samples


def fold(text: str) -> str:
    """Letters and digits of `text` in one case and width, one blank between words."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _NOT_WORD.sub(" ", text.casefold()).strip()


def hash_of(folded: str) -> int:
    """64 bits of BLAKE2b over the UTF-8 form."""
    data = folded.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def simhash(folded: str, shingle_chars: int) -> int:
    """SimHash of the shingles of a folded text, with one blank more at either end so that short words have some."""
    letters_N = np.frombuffer(f" {folded} ".encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    num_shingles = max(1, len(letters_N) - shingle_chars + 1)
    hash_N: NDArray[np.uint64] = letters_N[:num_shingles]
    for offset in range(1, min(shingle_chars, len(letters_N))):
        hash_N = hash_N * _PRIME + letters_N[offset : offset + num_shingles]
    for shift, factor in _MIX:
        hash_N = (hash_N ^ (hash_N >> shift)) * factor
    hash_N = hash_N ^ (hash_N >> _LAST_SHIFT)
    bits_NB = np.unpackbits(hash_N.astype(">u8").view(np.uint8)).reshape(-1, 64)
    ones_B = np.add.reduce(bits_NB, axis=0, dtype=np.int32)
    return int.from_bytes(np.packbits(ones_B > len(hash_N) // 2).tobytes(), "big")
