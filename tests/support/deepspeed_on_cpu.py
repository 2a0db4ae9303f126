"""The training command under DeepSpeed without a GPU, where accelerate by itself would not start it."""

import os
import sys

from accelerate.state import PartialState
from accelerate.utils import DistributedType

os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)

from pusa_core.cli.train import main  # noqa: E402

sys.exit(main([*sys.argv[1:], "--train.device="]))
