"""UMT5-XXL, Wan's text encoder, by transformers (the ``standalone`` extra)."""

from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from ..weights.files import read_tensors

MAX_TOKENS = 512
_TOKENIZER = "spiece_model"  # ComfyUI's umt5 files carry the tokenizer as a tensor of bytes under this name


class Umt5Encoder:
    """Prompt -> context ``[1, 512, 4096]``, zero past the end of the prompt, as Wan was trained.

    Args:
        path: a file as ComfyUI users have it (``umt5_xxl_fp16.safetensors``: Hugging Face names, tokenizer inside), or
            a folder in the Hugging Face layout.
    """

    def __init__(self, path: str | PathLike, device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16):
        path = Path(path)
        if path.is_dir():
            model, tokenizer = _read_folder(path, dtype)
            self.model = model.to(device).eval()
            self._tokenize = lambda text: tokenizer(text, truncation=True, max_length=MAX_TOKENS).input_ids
        else:
            tensors = read_tensors(path)
            if _TOKENIZER not in tensors or "encoder.block.0.layer.0.SelfAttention.q.weight" not in tensors:
                raise ValueError(
                    f"{path} is not a umt5 text encoder with its tokenizer inside; "
                    f"use umt5_xxl_fp16.safetensors, or a folder in the Hugging Face layout"
                )
            try:
                self._tokenize = _sentencepiece(tensors.pop(_TOKENIZER))
                self.model = _build_umt5(tensors).to(device, dtype).eval()
            except (KeyError, RuntimeError, ZeroDivisionError) as error:
                reason = " ".join(str(error).split())[:200]
                raise ValueError(f"{path} is no whole umt5 text encoder ({reason}); download it again") from error

    @torch.inference_mode()
    def __call__(self, text: str) -> Tensor:
        tokens = torch.tensor([self._tokenize(" ".join(text.split()))], device=self.model.device)
        hidden = self.model(tokens).last_hidden_state.float()
        return torch.nn.functional.pad(hidden, (0, 0, 0, MAX_TOKENS - hidden.shape[1]))


def _read_folder(path: Path, dtype: torch.dtype):
    """Model and tokenizer of a folder in the Hugging Face layout; nothing in it is executed."""
    from transformers import AutoTokenizer, UMT5EncoderModel

    if not any(path.glob("*.safetensors")):
        raise ValueError(f"{path} holds no .safetensors file; pickled weights can run code and are not read")
    try:
        model = UMT5EncoderModel.from_pretrained(path, dtype=dtype, use_safetensors=True, local_files_only=True)
        return model, AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except ImportError:
        raise
    except Exception as error:  # of the library's parsers; all of it means another or a damaged folder
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be read as a umt5 text encoder ({reason}); download it again") from error


def _sentencepiece(model: Tensor):
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model.numpy().tobytes())
    return lambda text: [*processor.encode(text)[: MAX_TOKENS - 1], processor.eos_id()]


def _build_umt5(tensors: dict[str, Tensor]):
    """A UMT5 encoder of the sizes that the weights have."""
    from transformers import UMT5Config, UMT5EncoderModel

    vocabulary, width = tensors["shared.weight"].shape
    inner = tensors["encoder.block.0.layer.0.SelfAttention.q.weight"].shape[0]
    heads = tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"].shape[1]
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=inner // heads,
        d_ff=tensors["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"].shape[0],
        num_layers=len({name.split(".")[2] for name in tensors if name.startswith("encoder.block.")}),
        num_heads=heads,
    )
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    weights = dict(tensors) | {"encoder.embed_tokens.weight": tensors["shared.weight"]}
    weights = {name: value for name, value in weights.items() if name in model.state_dict()}
    model.load_state_dict(weights, assign=True)
    return model
