"""What the count of FLOPs promises: what torch counts while it trains, for the LLM, encoders and projectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmdata.train.collate import Batch
from mmdata.train.dataset import PackDataset
from mmdata.train.dist import Dist
from mmdata.train.engine import Run, train
from mmdata.train.flops import _active, peak_tflops
from mmdata.train.journal import LOG, read
from mmdata.train.prepared import prepare
from tests.train import shelf, tiny

LORA = {"train": "lora", "lora": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}}


def counted(run: Run, pack: Batch) -> float:
    """Forward and backward of a pack as torch counts it, less the logits that only keep every weight in the sum."""
    torch.backends.mha.set_fastpath_enabled(False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        found, total, _ = run.model(pack)
        (total + found["lm"].sum()).backward()
    head = 2 * run.model.decoder.get_output_embeddings().weight.numel()
    is_trained = run.model.decoder.get_output_embeddings().weight.requires_grad
    return counter.get_total_flops() - head * (2 + is_trained)


def first_pack(config: Any) -> tuple[Run, Batch]:
    run = Run(prepare(config), Dist())
    pack = PackDataset(run.prepared.loader, config.plan.tokens_per_pack)[run.plan.packs_of(0)[0]]
    return run, pack


@pytest.mark.parametrize("projector", ["linear", "mlp", "pixel_shuffle", "cross_attention", "qformer"])
@pytest.mark.parametrize(
    ("llm", "encoder"), [({"train": "full"}, False), ({"train": "full"}, True), ({"train": "frozen"}, False)]
)
def test_a_pack_costs_what_torch_counts(
    tiny_path: Path, tmp_path: Path, projector: str, llm: dict[str, Any], encoder: bool
) -> None:
    config = tiny.config(
        tiny_path, str(tiny_path / "eight"), llm=llm, encoders={"image": {"train": encoder, **_vision(tiny_path)}},
        projectors={"image": {"kind": projector, "queries": 5, "heads": 4}}, machine={"folder": str(tmp_path)},
    )  # fmt: skip
    run, pack = first_pack(config)
    assert len(pack.keys) > 1
    assert run.flops.of(pack) == pytest.approx(counted(run, pack), rel=1e-6)


def _vision(path: Path) -> dict[str, Any]:
    return {"model": str(path / "models" / "vision"), "layer": -1, "fit": "crop"}


def test_lora_costs_its_own_gradients_beside_those_that_flow_through(tiny_path: Path, tmp_path: Path) -> None:
    config = tiny.config(
        tiny_path, str(tiny_path / "eight"), stage="instruct", llm=LORA, machine={"folder": str(tmp_path)}
    )
    run, pack = first_pack(config)
    assert run.flops.of(pack) == pytest.approx(counted(run, pack), rel=1e-6)


def test_sound_is_counted_by_its_windows_and_frames_as_pictures(tiny_path: Path, tmp_path: Path) -> None:
    sounds = [
        shelf.Written(f"a-{n}", f"one {n}", parts={"flac": shelf.flac(0.4 + n / 2, n)}, duration_s=0.4 + n / 2)
        for n in range(3)
    ]
    frames = {f"{i:03d}.jpg": shelf.jpeg(i) for i in range(4)}
    films = [shelf.Written("v-0", "film", parts=frames, times_s=[0.0, 0.5, 1.0, 1.5])]
    shelf.write(tmp_path / "a", "audio_text", sounds)
    shelf.write(tmp_path / "v", "video_text", films)
    data = [
        {"dataset": str(tmp_path / "a"), "modality": "audio_text"},
        {"dataset": str(tmp_path / "v"), "modality": "video_text"},
    ]
    config = tiny.config(
        tiny_path, "", kinds=("image", "video", "audio"), data=data, machine={"folder": str(tmp_path)},
        plan={"tokens_per_pack": 512, "packs_per_step": 1}, stage="joint",
    )  # fmt: skip
    run, pack = first_pack(config)
    assert set(pack.media) == {"video", "audio"}
    assert run.flops.of(pack) == pytest.approx(counted(run, pack), rel=1e-3)


def test_experts_that_a_token_is_not_sent_to_do_not_count() -> None:
    class Config:
        num_experts_per_tok = 2

    assert _active(torch.zeros(8, 3, 5), Config()) == 2 * 3 * 5
    assert _active(torch.zeros(3, 5), Config()) == 15
    assert _active(torch.zeros(5), Config()) == 0


def test_utilisation_is_told_where_the_peak_is_known(tiny_path: Path, tmp_path: Path) -> None:
    assert peak_tflops(torch.device("cpu"), 0.0) is None
    assert peak_tflops(torch.device("cpu"), 2.5) == 2.5
    for name, peak in (("plain", 0.0), ("known", 0.5)):
        machine = {"folder": str(tmp_path), "peak_tflops": peak}
        train(tiny.config(tiny_path, str(tiny_path / "eight"), name=name, machine=machine, plan={"max_steps": 1}))
    plain, known = (read(tmp_path / name / LOG)[0] for name in ("plain", "known"))
    assert plain["mfu"] is None
    assert plain["flops"] == known["flops"] > 0
    assert known["tflops"] == pytest.approx(known["flops"] / known["step_s"] / 1e12)
    assert known["mfu"] == pytest.approx(known["tflops"] / 0.5)


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H100 80GB HBM3", 989.0), ("NVIDIA H100 PCIe", 756.0), ("NVIDIA A100-SXM4-40GB", 312.0),
     ("NVIDIA L4", 121.0), ("NVIDIA L40S", 362.0), ("NVIDIA GH200 480GB", 989.0), ("NVIDIA Nothing", None),
     ("NVIDIA RTX A4000", None), ("NVIDIA GB200", 2500.0), ("AMD Instinct MI250X", 383.0)],
)  # fmt: skip
def test_gpus_are_known_by_their_names(monkeypatch: pytest.MonkeyPatch, name: str, peak: float | None) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_tflops(torch.device("cuda"), 0.0) == peak
