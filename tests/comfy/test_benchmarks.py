"""The benchmarks see what a server does."""

from benchmarks.in_comfyui_watch import watch
from tools.comfy_client import ComfyClient

from ..support.graphs import image_to_video, node

STEPS = 4


def test_every_node_of_a_graph_and_every_step_of_its_sampler_gets_a_time(comfy: ComfyClient) -> None:
    graph = image_to_video("0:0.123")
    graph["save"] = node("SaveLatent", samples=["video", 0], filename_prefix="watched")
    timeline = watch(comfy, graph)
    taken = timeline.seconds
    assert {"video", "save"} <= set(taken) <= set(graph)
    ends = timeline.progress["video"]
    assert len(ends) == STEPS and ends == sorted(ends)
    assert 0 < ends[-1] - ends[0] < taken["video"]
