"""The demo model's text encoder: each word is hashed to a fixed vector. No weights, no downloads."""

import hashlib
import re

import torch
from torch import Tensor

TEXT_DIM = 4096  # width of UMT5-XXL's output, which Wan was built for
MAX_WORDS = 24


def word_vector(word: str) -> Tensor:
    """A vector of +1 and -1, ``[4096]``, determined by the word; any two are nearly orthogonal."""
    bits = torch.frombuffer(bytearray(hashlib.shake_256(word.encode()).digest(TEXT_DIM // 8)), dtype=torch.uint8)
    return ((bits[:, None] >> torch.arange(8)) & 1).flatten().float() * 2 - 1


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers of a prompt, at most ``MAX_WORDS``."""
    return re.findall(r"[^\W_]+", text.lower())[:MAX_WORDS]


def encode_text(text: str) -> Tensor:
    """Context ``[1, 24, 4096]`` fp32: the word vectors in order, zero-padded as Wan pads its prompts."""
    context = torch.zeros(1, MAX_WORDS, TEXT_DIM)
    for index, word in enumerate(words_of(text)):
        context[0, index] = word_vector(word)
    return context
