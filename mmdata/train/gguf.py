"""A model in a GGUF file as the folder that transformers loads fast: unpacked once, and kept in the user's cache.

transformers reads such a file three times, for config, tokenizer and weights, and takes half a minute for 135 million
of them; the unpacked folder loads in seconds. It has the same weights, in fp32.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch


def unpacked(model: str, gguf_file: str) -> str:
    """The folder of the model in file `gguf_file` of `model`, a folder or a name of the hub.

    Raises OSError or ValueError where it cannot be had.
    """
    import transformers
    from transformers.utils.hub import cached_file

    path = Path(str(cached_file(model, gguf_file))).resolve()
    facts = path.stat()
    known = f"{path}\n{facts.st_size}\n{facts.st_mtime_ns}\n{transformers.__version__}"
    name = f"{path.stem.lower()}-{hashlib.sha256(known.encode()).hexdigest()[:16]}"
    target = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmdata" / "gguf" / name
    if not target.exists():
        _unpack(model, gguf_file, target)
    return str(target)


def _unpack(model: str, gguf_file: str, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    auto: Any = AutoModelForCausalLM
    llm = auto.from_pretrained(model, gguf_file=gguf_file, dtype=torch.float32)
    # Its weights are plain numbers by now; transformers would still take them for quantised ones.
    llm.hf_quantizer, llm.is_quantized = None, False
    del llm.config.quantization_config
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    temporary.mkdir(parents=True)
    try:
        llm.save_pretrained(temporary)
        AutoTokenizer.from_pretrained(model, gguf_file=gguf_file).save_pretrained(temporary)
        try:
            temporary.rename(target)
        except OSError:
            if not target.exists():  # another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
