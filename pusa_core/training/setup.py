"""Assembles a training run from its options."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ..model.device import DTYPES
from ..weights.lora import save_lora
from .adapters import lora_from_factors
from .config import Config
from .data import Batches, ReadAhead, Sampling
from .evaluate import SampleVideo
from .experts import Expert, Residency, expert_ranges, turns_of
from .launch import Launch
from .network import ModelSource, build_network, trainable
from .optimizer import build_optimizer
from .optimizer_state import Numbers
from .ownership import KEY, Run
from .prepare import Data, Preparation
from .report import Report
from .resume import Saved
from .stop import StopRequest
from .turns import Turns


@dataclass
class Setup:
    """The components of a training run.

    ``experts``: the networks that are trained, in turns where there are several. ``identity``: see
    :func:`pusa_core.training.identity.run_identity`. ``run``: in process 0. ``trained``: content hashes of the clips
    that the run has been trained on, earlier ones included.
    """

    config: Config
    launch: Launch
    report: Report
    stop: StopRequest
    identity: Mapping[str, Any]
    data: Data
    batches: ReadAhead
    experts: Sequence[Expert]
    samples: Sequence[SampleVideo]
    run: Run | None = None
    trained: frozenset[str] = frozenset()

    def state(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint, gathered on the CPU; a collective call."""
        return {name: value for expert in self.experts for name, value in expert.state()}

    def numbers(self) -> dict[str, Numbers]:
        """The numbers of a checkpoint, by expert."""
        return {expert.name: expert.optimizer_state.numbers() for expert in self.experts}

    def load_state(self, saved: Saved) -> None:
        """Restore what :meth:`state` and :meth:`numbers` gave."""
        tensors, numbers = saved.tensors(), saved.info.get("optimizer", {})
        for expert in self.experts:
            expert.load_state(tensors, numbers.get(expert.name, {}))

    def write_result(self, expert: Expert, weights: Mapping[str, Tensor], step: int, path: Path) -> None:
        """Write the LoRA, or in full fine-tuning the model, for ComfyUI's loaders."""
        options, dtype = self.config.train, DTYPES[self.config.model.dtype]
        cast = {name: value.to(dtype).contiguous() for name, value in weights.items()}
        about = {
            "base": expert.base,
            "objective": "fafm",
            "steps": step,
            "p_async": options.p_async,
            "p_region": options.p_region,
            "p_history": options.p_history,
            "p_own_history": options.p_own_history,
            "shift": options.shift,
            "noise_range": list(expert.noise_range),
        }
        metadata = {name: str(value) for name, value in about.items()}
        if self.run is not None:
            metadata[KEY] = self.run.id
        if options.mode == "full":
            save_file(cast, path, {"format": "pt", **metadata})
        else:
            save_lora(lora_from_factors(cast, options.alpha or options.rank), path, metadata)


def build_setup(
    config: Config,
    sources: Sequence[ModelSource],
    preparation: Preparation,
    data: Data,
    identity: Mapping[str, Any],
    run: Run | None,
    trained: Collection[str],
    launch: Launch,
    report: Report,
    stop: StopRequest,
) -> Setup:
    """Check the sample keyframes, then load the network and prepare it for training."""
    options = config.train
    samples = build_samples(config, preparation, data) if config.output.sample_every else []
    experts = build_experts(sources, config, launch)
    sampling = Sampling(
        options.seed,
        options.p_async,
        options.shift,
        config.data.caption_dropout,
        Turns(turns_of(config).ranges, options.switch_every * options.accumulate),
        options.p_given,
        options.p_region,
        options.p_history,
        options.p_own_history,
    )
    batches = Batches(data.cache, data.train, data.no_caption, options.batch, sampling, launch.rank, launch.world)
    return Setup(
        config,
        launch,
        report,
        stop,
        identity,
        data,
        ReadAhead(batches),
        experts,
        samples,
        run,
        frozenset(trained) | {entry.content for entry in data.train},
    )


def build_samples(config: Config, preparation: Preparation, data: Data) -> list[SampleVideo]:
    """The sample videos, their keyframes encoded."""
    tables, load_vae = config.output.all_samples, lru_cache(preparation.encoders.load_vae)
    samples = [
        SampleVideo(
            config,
            table,
            f"_{number}" if len(tables) > 1 else "",
            data.cache.read(caption)[None],
            data.cache.read(data.no_caption)[None],
            load_vae,
        )
        for number, (table, caption) in enumerate(zip(tables, data.sample_captions, strict=True), 1)
    ]
    for sample in samples:
        _ = sample.given
    return samples


def build_experts(sources: Sequence[ModelSource], config: Config, launch: Launch) -> list[Expert]:
    """The networks with their optimisers; of several, none is on the device before it is called."""
    options, experts = config.train, []
    if launch.sharded:  # fp8 of a file is widened, to be divided with everything else
        config = replace(config, model=replace(config.model, base_dtype="full"))
    files = (config.model.checkpoint, config.model.low_noise_checkpoint)
    for source, shards, (name, noise_range) in zip(sources, files, expert_ranges(config).items(), strict=False):
        network, adapters = build_network(source, config, launch.load_device)
        model, optimizer = launch.prepare(network, build_optimizer(options, trainable(network)))
        free = options.optimizer == "schedulefree"
        experts.append(
            Expert(name, Path(shards[0]).name, noise_range, launch, model, adapters, optimizer, options.ema, free)
        )
        if len(sources) > 1:
            experts[-1].leave()
    if len(experts) > 1:
        Residency(experts)
    return experts
