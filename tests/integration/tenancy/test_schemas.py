"""The program against its own documents, by schemathesis: no 5xx, no status that is not documented.

A quarter of a minute for each document here; ``make fuzz`` takes as long as it is told.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment
from tests.support.program import Program

SECONDS = int(os.environ.get("TROUPE_FUZZ_SECONDS", "15"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.mark.parametrize("group", ["auth", "data", "analytics"])
def test_every_answer_is_a_documented_one(troupe: Program, group: str, tmp_path: Path) -> None:
    values = {"tenant_id": str(troupe.here.tenant_id)}
    lines = [f'"path.{name}" = {json.dumps(value)}' for name, value in values.items()]
    config = tmp_path / "schemathesis.toml"
    config.write_text("[parameters]\n" + "\n".join(lines) + "\n")
    token = troupe.token(troupe.here, "owner")["Authorization"]
    result = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            *("--config-file", str(config), "run", f"{troupe.urls[group]}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
            *("--max-time", str(SECONDS), "--max-examples", "200", "--seed", "1"),
            *("--header", f"Authorization:{token}", "--request-timeout", "20"),
            *("--suppress-health-check", "all", "--warnings", "off", "--no-color"),
            "--continue-on-failure",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        timeout=SECONDS * 4 + 120,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "No issues found" in result.stdout or "passed" in result.stdout, result.stdout[-2000:]
