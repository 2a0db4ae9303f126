"""Writes a Wan model as the GGUF files that users have: architecture ``wan``, original names, layers in 8 or 4 bits.

As the converters of ComfyUI-GGUF do it: tensors of one dimension, modulations and small ones stay fp32, the
five-dimensional patch embedding and all else is fp16 or quantised.
"""

from pathlib import Path

import gguf
import torch
from torch import Tensor

TYPES = {"F16": "MOSTLY_F16", "Q8_0": "MOSTLY_Q8_0", "Q4_0": "MOSTLY_Q4_0"}
ROW = 256  # of tensors that a converter reshaped


def write_gguf(weights: dict[str, Tensor], kind: str, path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Write ``weights`` with their matrices as ``kind``, one of ``TYPES``; the weights that the file then holds."""
    writer = gguf.GGUFWriter(path=None, arch="wan")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType[TYPES[kind]])
    held = {}
    for name, weight in weights.items():
        full = weight.ndim == 1 or weight.numel() <= 1024 or name.endswith("modulation")
        matrix = weight.ndim == 2 and name.startswith("blocks")
        quantised = gguf.GGMLQuantizationType["F32" if full else kind if matrix else "F16"]
        values = weight.float()
        if name == "text_embedding.0.weight":  # some converters write tensors in rows of 256, with their shape beside
            writer.add_array(f"comfy.gguf.orig_shape.{prefix}{name}", tuple(values.shape))
            values = values.reshape(-1, ROW)
        data = gguf.quants.quantize(values.numpy(), quantised)
        writer.add_tensor(prefix + name, data, raw_dtype=quantised)
        held[name] = torch.from_numpy(gguf.quants.dequantize(data, quantised)).reshape(weight.shape).clone()
    writer.write_header_to_file(path=path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held
