"""Generates ``RESULTS.md``."""

import numpy as np

from demo.training.machine import machine

METRICS = ("background", "position", "size", "motion")
FLOOR, BASE_VTA = "ground truth through the VAE", "(b) base with VTA"


def compared_with_b(label: str, image: dict[str, dict[str, tuple[float, float]]]) -> str:
    """The errors of a model as percentages of those of the base."""
    shares = (f"{name} {image[label][name][0] / image[BASE_VTA][name][0]:.0%}" for name in METRICS)
    return f"Errors of {label} relative to (b): {', '.join(shares)}.  "


def report(results: dict, clips: int, sampling: str, seconds: float) -> str:
    """The text of ``RESULTS.md``."""
    text = results["text"]
    lines = [
        "# The demo model, measured",
        "",
        f"Written by `python -m benchmarks.demo_model.measure --clips {clips}` in {seconds / 60:.0f} minutes "
        f"({machine()}); {clips} held-out clips (scene seeds 0 to {clips - 1}), {sampling}.",
        "",
        "## VAE",
        "",
        f"Reconstruction PSNR of whole clips: mean {np.mean(results['psnr']):.2f} dB, worst clip "
        f"{min(results['psnr']):.2f} dB. Mean absolute error of the background in the three pixels around the object, "
        f"where a halo would be: {np.mean(results['halo']):.4f} (0..1). Figure: each clip above its reconstruction.",
        "",
        "![reconstructions](pictures/vae.png)",
        "",
        "## Text to video",
        "",
        "Fraction of clips whose object has the captioned colour and shape and moves in the captioned direction.",
        "",
        "| model | colour | shape | direction |",
        "|---|---|---|---|",
        *(f"| {label} | {s['color']:.0%} | {s['shape']:.0%} | {s['direction']:.0%} |" for label, s in text.items()),
        "",
        "![text to video](pictures/text_to_video.png)",
        "",
        "Clips of the base model for " + "; ".join(f'"{caption}"' for caption in results["captions"]) + ".",
        "",
        "## Image to video",
        "",
        "Caption and first frame together determine the clip, so every result is compared with the ground truth: mean "
        "absolute error of the background (0..1) away from the object, position error of the object (pixels of 64), "
        "relative error of its area, and error of its motion between consecutive latent frames, including the given "
        "one (pixels per frame); mean and standard error over the clips. "
        "(a) replaces frame 0 with the re-noised image before every step, which is all that a scalar timestep allows; "
        "(b) sets the timestep of frame 0 to 0; (c) does the same with the LoRA merged. The first row is the ground "
        "truth encoded and decoded: the error floor of VAE and measurement.",
        "",
        "| model | background | position | size | motion |",
        "|---|---|---|---|---|",
        *(
            f"| {label} | " + " | ".join(f"{s[m][0]:.3f} ± {s[m][1]:.3f}" for m in METRICS) + " |"
            for label, s in results["image"].items()
        ),
        "",
        *(compared_with_b(label, results["image"]) for label in results["image"] if label.startswith("(c)")),
        f"A guess from the captions alone, the mid-range of their radii, has a size error of "
        f"{results['captioned_size']:.3f}.",
        "",
        "![image to video](pictures/image_to_video.png)",
        "",
        "Three clips, four rows each: ground truth, (a), (b), (c) at strength 1.",
        "",
        "All other tasks (start and end frames, completion, extension, video to video ...): [TASKS.md](TASKS.md). The "
        "VAE's lead-in for clips at the end: [LEAD_IN.md](LEAD_IN.md).",
        "",
    ]
    return "\n".join(lines)
