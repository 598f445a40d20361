"""uv.lock names every file that may be installed by its hash, from the public registry."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

PACKAGES: list[dict[str, Any]] = tomllib.loads(Path("uv.lock").read_text(encoding="utf-8"))["package"]


def test_every_package_but_ours_comes_from_one_registry_by_hash() -> None:
    assert [package["name"] for package in PACKAGES if "registry" not in package["source"]] == ["restante"]
    others = [package for package in PACKAGES if package["name"] != "restante"]
    assert len({package["source"]["registry"] for package in others}) == 1
    for package in others:
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert files, package["name"]
        for file in files:
            assert re.fullmatch("sha256:[0-9a-f]{64}", file["hash"]), file
            assert file["url"].startswith("https://"), file
