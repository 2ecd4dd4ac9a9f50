"""The program against its own documents, by schemathesis: no 5xx, no status that is not documented.

A quarter of a minute for each document here; ``make fuzz`` takes as long as it is told.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment
from tests.support.program import Party, Program, furnish

SECONDS = int(os.environ.get("TROUPE_FUZZ_SECONDS", "15"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.mark.parametrize("group", ["auth", "data", "analytics"])
def test_every_answer_is_a_documented_one(troupe: Program, group: str, tmp_path: Path) -> None:
    # A tenant of its own: an owner who does whatever comes to mind leaves little of it.
    party = Party(f"Fuzzed {group}")
    furnish(troupe, party)
    values = {"tenant_id": str(party.tenant_id)}
    lines = [f'"path.{name}" = {json.dumps(value)}' for name, value in values.items()]
    config = tmp_path / "schemathesis.toml"
    config.write_text("[parameters]\n" + "\n".join(lines) + "\n")
    token = troupe.token(party, "owner")["Authorization"]
    result = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            *("--config-file", str(config), "run", f"{troupe.urls[group]}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
            *("--max-time", str(SECONDS), "--max-examples", "200", "--seed", "1"),
            *("--header", f"Authorization:{token}", "--request-timeout", "20"),
            *("--suppress-health-check", "all", "--warnings", "off", "--no-color"),
            "--continue-on-failure",
            # It would end the test: everybody is out from then on.
            *("--exclude-path-regex", "/deactivate$"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        timeout=SECONDS * 4 + 120,
        check=False,
    )
    told = "\n".join(line[:300] for line in result.stdout.splitlines())
    assert result.returncode == 0, told[-6000:] + result.stderr[-2000:]
    generated = re.search(r"([0-9,]+) generated", told)
    assert generated is not None, told[-2000:]
    assert int(generated[1].replace(",", "")) > 20
