"""A bad drafter of the right vocabulary: the target's first layers, untrained. It is nearly always wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

LAYERS = 2
_LAYER = re.compile(r"model\.layers\.(\d+)\.")


def write_truncated(source: Path, target: Path, layers: int = LAYERS) -> Path:
    """Write the model in ``source`` with its first ``layers`` layers only into the new directory ``target``.

    Raises OSError, and ValueError for a model that is not stored in one safetensors file.
    """
    target.mkdir()
    files = sorted(source.glob("*.safetensors"))
    if len(files) != 1:
        raise ValueError(f"{source} holds {len(files)} safetensors files; only one can be truncated")
    with files[0].open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell()
        kept: dict[str, object] = {}
        parts: list[bytes] = []
        offset = 0
        for name, entry in header.items():
            layer = _LAYER.match(name)
            if name == "__metadata__" or (layer and int(layer[1]) >= layers):
                continue
            begin, end = entry["data_offsets"]
            file.seek(start + begin)
            parts.append(file.read(end - begin))
            kept[name] = {**entry, "data_offsets": [offset, offset + end - begin]}
            offset += end - begin
    text = json.dumps(kept, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (target / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
    config = json.loads((source / "config.json").read_text("utf-8"))
    config["num_hidden_layers"] = layers
    (target / "config.json").write_text(json.dumps(config), "utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (source / name).is_file():
            shutil.copy(source / name, target / name)
    return target
