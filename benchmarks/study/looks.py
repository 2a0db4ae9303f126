"""The study's analysis of the model: frame-to-frame attention with and without the LoRA, and weight changes."""

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.study.cells import Bench
from benchmarks.study.store import Arrays
from pusa_core import Given, load_lora
from pusa_core.analysis import AttentionMaps, AttentionRecorder, Change, RecordedModel, lora_drift
from pusa_core.analysis.attention_map import FrameAttention, frame_attention, pooled_frame_attention
from pusa_core.media.demo_text import encode_text
from pusa_core.sampling.pipeline import Settings, generate_latents
from pusa_core.weights.demo_files import DIT, LORA, LORA_STRENGTH

MEASURES: dict[str, FrameAttention] = {"exact": frame_attention, "averaged first": pooled_frame_attention}
MODELS = {"base": None, "LoRA": "demo"}


@dataclass(frozen=True)
class Attention:
    """Maps ``[clips, steps, blocks, F, F]`` of the given steps and all blocks."""

    clips: np.ndarray
    steps: tuple[int, ...]

    @property
    def to_first(self) -> np.ndarray:
        """``[clips, steps, blocks]``: mean attention of frames 1 and later to frame 0, the given one."""
        return self.clips[..., 1:, 0].mean(-1)

    def last_block(self) -> AttentionMaps:
        """The last block's maps, averaged over the clips."""
        mean = torch.from_numpy(self.clips.mean(0)).float()
        return AttentionMaps(mean[:, -1:], self.steps, (mean.shape[1] - 1,))


def attention(bench: Bench, label: str, measure: str = "exact") -> Attention:
    """Attention maps of a model of :data:`MODELS` during image-to-video sampling."""
    plan = bench.plan
    total = plan.sampling_steps
    steps = tuple(sorted({0, total // 3, 2 * total // 3, total - 1}))  # 0, 3, 6, 9 of 10, as in the paper

    def compute() -> Arrays:
        model = bench.model(MODELS[label], LORA_STRENGTH)
        blocks = model.config.num_layers
        maps = []
        for index in range(plan.attention_clips):
            recorder = AttentionRecorder(
                steps, range(blocks), total_steps=total, total_blocks=blocks, measure=MEASURES[measure]
            )
            context = encode_text(bench.scenes[index].caption)
            given = Given.empty(torch.zeros(1, 16, 21, 8, 8), 21).place(bench.first[index : index + 1], 0)
            recorded = RecordedModel(model, recorder, context)
            settings = Settings(64, 64, steps=total, seed=index)
            generate_latents(recorded, given, context, encode_text(""), settings, callback=recorder.after_step)
            maps.append(recorder.result().maps.numpy())
        return {"maps": np.stack(maps)}

    stored = bench.store.get(compute, "attention", MODELS[label], measure, total, plan.attention_clips)
    return Attention(stored["maps"], steps)


def drift() -> list[Change]:
    """Parameter drift of the demo model's LoRA at the strength that the demo uses."""
    return lora_drift(DIT, load_lora(LORA), LORA_STRENGTH)
