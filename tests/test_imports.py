"""The layers: a folder imports only from those above it, and `escnet --help` loads nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("schemas", "escnet", "pipeline", "jobs")
FORBIDDEN = {
    "schemas": {"torch", "ray", "fsspec", "s3fs", "open_clip", "segment_anything", "timm", "PIL", "click"},
    "escnet": {"ray", "fsspec", "s3fs", "click", "tqdm"},
    "pipeline": {"click"},
    "jobs": set(),
}
MODULES = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]


def imported_packages(path: Path) -> set[str]:
    """Top-level packages that a module imports anywhere, functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).split(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_imports_only_from_those_above_it(path):
    layer = path.relative_to(ROOT).parts[0]
    below = set(LAYERS[LAYERS.index(layer) + 1 :])
    assert imported_packages(path) & (below | FORBIDDEN[layer] | {"tests"}) == set()


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        *(
            [name, "--help"]
            for name in ("annotate", "model", "vocabulary", "train", "evaluate", "export", "dataset", "demo-world")
        ),
    ],
)
def test_help_loads_nothing_heavy(command):
    code = (
        "import sys; sys.argv = ['escnet', *sys.argv[1:]]\n"
        "from jobs.main import main\n"
        "try:\n    main()\n"
        "finally:\n    print('LOADED', sorted({'torch', 'ray', 'pyarrow', 'pydantic', 'fsspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[0].startswith("Usage: escnet")
    assert done.stdout.splitlines()[-1] == "LOADED []"
