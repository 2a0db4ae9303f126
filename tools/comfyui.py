"""Starts a headless ComfyUI server with this pack linked into its custom nodes."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PACK = Path(__file__).resolve().parents[1]
PACK_NAME = "ComfyUI-Pusa"
START_SECONDS = 600  # timeout; a failed start ends the wait immediately


def find_comfyui() -> Path | None:
    """``$COMFYUI_PATH``, the ComfyUI this pack is installed in, or comfy-cli's default workspace."""
    if path := os.environ.get("COMFYUI_PATH"):
        return Path(path)
    places = (PACK.parents[1], Path.home() / "comfy" / "ComfyUI")
    return next((place for place in places if (place / "main.py").is_file()), None)


def find_pack(comfyui: Path, name: str) -> Path | None:
    """The pack ``name`` of others, in ``$COMFYUI_PACKS`` or among the custom nodes of ``comfyui``."""
    folders = [Path(os.environ["COMFYUI_PACKS"])] if "COMFYUI_PACKS" in os.environ else []
    packs = (pack for folder in (*folders, comfyui / "custom_nodes") for pack in folder.iterdir())
    return next((pack.resolve() for pack in packs if pack.name.lower() == name.lower()), None)


def python_of(comfyui: Path) -> str:
    """The Python interpreter of ComfyUI: that of its own virtual environment if it has one."""
    for name in (".venv", "venv"):
        for python in (comfyui / name / "bin" / "python", comfyui / name / "Scripts" / "python.exe"):
            if python.is_file():
                return str(python)
    return sys.executable


def make_base(base: Path) -> None:
    """Create a base directory for ComfyUI with this pack installed and no models."""
    for name in ("custom_nodes", "input", "output", "temp", "user"):
        (base / name).mkdir(parents=True)
    for kind in ("diffusion_models", "loras", "vae"):
        (base / "models" / kind).mkdir(parents=True)
    target = base / "custom_nodes" / PACK_NAME
    try:
        target.symlink_to(PACK, target_is_directory=True)
    except OSError:  # Windows without the privilege to create links
        shutil.copytree(PACK, target, ignore=shutil.ignore_patterns(".*", "tests"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextmanager
def running_server(comfyui: Path, base: Path, options: Sequence[str] = ("--cpu",)) -> Iterator[str]:
    """Run a server on ``base`` until the context exits; yields its URL. Its output goes to ``base/server.log``.

    ``$COMFYUI_FRONTEND``, the ``static`` folder of a comfyui-frontend-package, replaces ComfyUI's own page.
    """
    port = free_port()
    arguments = ["main.py", *options, "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(base)]
    arguments += ["--disable-api-nodes", "--database-url", "sqlite:///:memory:", "--preview-method", "latent2rgb"]
    if frontend := os.environ.get("COMFYUI_FRONTEND"):
        arguments += ["--front-end-root", frontend]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    log = base / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [python_of(comfyui), *arguments], cwd=comfyui, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(url, process, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def temporary_server(comfyui: Path) -> Iterator[str]:
    """Run a server with this pack and no models in a temporary directory; yields its URL."""
    with tempfile.TemporaryDirectory() as folder:
        make_base(base := Path(folder) / "base")
        with running_server(comfyui, base) as url:
            yield url


def _wait_until_up(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/system_stats", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise RuntimeError(f"ComfyUI did not start; the end of its output:\n{log.read_text()[-3000:]}")
