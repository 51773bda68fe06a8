"""Dashboards and data sources as files that Grafana reads when it starts, for one organisation."""

import json
from pathlib import Path
from typing import Any

import yaml

from dashboards.board import NAME, TAG
from dashboards.collection import dashboards
from dashboards.datasources import PLACEHOLDERS


def write(folder: Path, alert_url: str) -> list[Path]:
    """Write the files, below a folder for Grafana's ``provisioning`` and its dashboards. Raises OSError.

    No secret is in them: data sources name the environment variables that hold theirs.
    """
    files = {
        Path("provisioning/datasources/fenghuo.yaml"): _yaml(
            {"apiVersion": 1, "datasources": [one.provisioned() for one in PLACEHOLDERS]}
        ),
        Path("provisioning/dashboards/fenghuo.yaml"): _yaml({"apiVersion": 1, "providers": [_PROVIDER]}),
    }
    for one in dashboards(alert_url):
        text = json.dumps(one, ensure_ascii=False, indent=1, sort_keys=True)
        files[Path(f"dashboards/{one['uid']}.json")] = f"{text}\n"
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    for old in (folder / "dashboards").glob(f"{TAG}-*.json"):
        if old.relative_to(folder) not in files:
            old.unlink()
    return [folder / name for name in files]


_PROVIDER = {
    "name": TAG,
    "folder": NAME,
    "folderUid": TAG,
    "type": "file",
    "allowUiUpdates": False,
    "options": {"path": "$FENGHUO_DASHBOARDS"},
}


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
