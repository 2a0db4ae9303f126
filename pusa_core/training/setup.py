"""Assembles a training run from its options."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..model.device import DTYPES
from ..weights.lora import save_lora
from .adapters import LoraLinear, lora_from_factors
from .config import Config
from .data import Batches, ReadAhead, Sampling
from .evaluate import SampleVideo
from .launch import Launch, unwrapped
from .network import ModelSource, TrainedWan, build_network, trainable
from .optimizer import Ema, build_optimizer
from .optimizer_state import OptimizerState
from .ownership import KEY, Run
from .prepare import Data, Preparation
from .report import Report
from .resume import Saved
from .stop import StopRequest


@dataclass
class Setup:
    """The components of a training run.

    ``model``: called in training, wrapped for distributed runs; ``network``: the DiT inside. ``parameters``: trained
    parameters by name. ``identity``: see :func:`pusa_core.training.identity.run_identity`. ``run``: in process 0.
    ``trained``: content hashes of the clips that the run has been trained on, earlier ones included.
    """

    config: Config
    launch: Launch
    report: Report
    stop: StopRequest
    identity: Mapping[str, Any]
    data: Data
    batches: ReadAhead
    model: nn.Module
    network: TrainedWan
    adapters: dict[str, LoraLinear]
    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    sample: SampleVideo | None
    run: Run | None = None
    trained: frozenset[str] = frozenset()
    optimizer_state: OptimizerState = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer_state = OptimizerState(self.optimizer, self.parameters, self.launch)

    def state(self, ema: Ema | None) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors of a checkpoint, gathered on the CPU; a collective call."""
        for name, parameter in self.parameters.items():
            yield f"weights/{name}", self.launch.whole(parameter)
            if ema is not None:
                yield f"ema/{name}", self.launch.whole(ema.values[name])
        yield from self.optimizer_state.tensors()

    @torch.no_grad()
    def load_state(self, saved: Saved, ema: Ema | None) -> None:
        """Restore what :meth:`state` yielded, and the numbers of the optimiser."""
        tensors = saved.tensors()
        for name, parameter in self.parameters.items():
            parameter.copy_(self.launch.like(tensors[f"weights/{name}"], parameter))
            if ema is not None:
                ema.values[name].copy_(self.launch.like(tensors[f"ema/{name}"], parameter))
        self.optimizer_state.load(tensors, saved.info.get("optimizer", {}))

    def write_result(self, weights: Mapping[str, Tensor], step: int, path: Path) -> None:
        """Write the LoRA, or in full fine-tuning the model, for ComfyUI's loaders."""
        options, dtype = self.config.train, DTYPES[self.config.model.dtype]
        cast = {name: value.to(dtype).contiguous() for name, value in weights.items()}
        about = {
            "base": Path(self.config.model.checkpoint[0]).name,
            "objective": "fafm",
            "steps": step,
            "p_async": options.p_async,
            "p_region": options.p_region,
            "shift": options.shift,
            "noise_range": list(options.noise_range),
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
    source: ModelSource,
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
    sample = None
    if config.output.sample_every:
        sample = SampleVideo(
            config,
            data.cache.read(data.sample_caption)[None],
            data.cache.read(data.no_caption)[None],
            preparation.encoders.load_vae,
        )
        _ = sample.given
    network, adapters = build_network(source, config, launch.load_device)
    optimizer = build_optimizer(options, trainable(network))
    model, optimizer = launch.prepare(network, optimizer)
    network = unwrapped(model)
    sampling = Sampling(
        options.seed,
        options.p_async,
        options.shift,
        config.data.caption_dropout,
        options.noise_range,
        options.p_given,
        options.p_region,
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
        model,
        network,
        adapters,
        trainable(network),
        optimizer,
        sample,
        run,
        frozenset(trained) | {entry.content for entry in data.train},
    )
