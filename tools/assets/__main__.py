"""`python -m tools.assets`: write the files that are made."""

from __future__ import annotations

from tools.assets.made import ASSETS, made

for path, text in made().items():
    (ASSETS / path).write_text(text)
    print(ASSETS / path)
