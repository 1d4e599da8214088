"""The wheel that is built has what it should, and no more."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_size_and_contents(tmp_path):
    """Built without the network, from a copy: setuptools leaves folders behind."""
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, map(bytes.decode, tracked)):
        if name.startswith(("src/", "pyproject", "README", "LICENSE")) and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", source]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("panembed-*-py3-none-any.whl")
    assert wheel.stat().st_size < 24e6
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        text = archive.read(next(name for name in sizes if name.endswith("METADATA"))).decode()
    for model in ("leaf", "nuclei"):
        for file in ("config.json", "model.safetensors", "model.onnx", "README.md"):
            assert sizes[f"panembed/models/shipped/{model}/{file}"] > 0
    models = sum(size for name, size in sizes.items() if name.startswith("panembed/models/shipped/"))
    assert models <= 20e6
    assert sizes["panembed/io/fonts/DejaVuSans.ttf"] > 0
    assert "panembed/py.typed" in sizes
    assert any(name.startswith("panembed/settings/presets/") for name in sizes)
    python = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src/panembed").rglob("*.py")}
    assert {name for name in sizes if name.endswith(".py")} == python
    assert not any(part in name for name in sizes for part in ("__pycache__", "tests/", "benchmarks/"))
    # What prediction needs, and nothing of training.
    needed = [
        line.split()[1] for line in text.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line
    ]
    assert any(name.startswith("onnxruntime") for name in needed)
    assert not any(name.startswith(("torch", "timm", "accelerate", "matplotlib", "safetensors")) for name in needed)
