"""The command line against the running demonstration."""

import json
from datetime import timedelta

from tests.e2e.conftest import Demo
from tests.support.processes import command


def _troupe(demo: Demo, *arguments: str) -> tuple[int, str, str]:
    result = command("--state-dir", str(demo.state / "troupe"), *arguments)
    return result.returncode, result.stdout, result.stderr


def test_ingest_shows_how_it_went(demo: Demo) -> None:
    tenant = demo.tenants[0]
    day = (tenant.last_day - timedelta(days=2)).isoformat()
    code, out, error = _troupe(demo, "ingest", tenant.name, "--from", day, "--to", day, "--json")
    assert code == 0, error
    job = json.loads(out)
    assert job["state"] == "done"
    assert (job["done"], job["total"]) == (1, 1)
    code, out, _ = _troupe(demo, "jobs", "show", tenant.id, job["id"], "--json")
    assert code == 0
    assert json.loads(out)["id"] == job["id"]
    code, out, _ = _troupe(demo, "jobs", "list", tenant.id, "--json")
    assert code == 0
    assert job["id"] in {entry["id"] for entry in json.loads(out)}
    code, _, error = _troupe(demo, "jobs", "cancel", tenant.id, job["id"])
    assert code == 4
    assert "done" in error


def test_days_are_listed_and_compared_with_the_source(demo: Demo) -> None:
    tenant = demo.tenants[0]
    last = tenant.last_day.isoformat()
    code, out, error = _troupe(demo, "days", "list", tenant.name, "--from", last, "--json")
    assert code == 0, error
    listed = json.loads(out)
    assert [day["day"] for day in listed["days"]] == [last]
    assert listed["days"][0]["state"] == "loaded"
    code, out, error = _troupe(demo, "days", "list", tenant.name)
    assert (code, last in out) == (0, True), error
    one = (tenant.name, "--from", last, "--to", last)
    code, _, error = _troupe(demo, "days", "count", *one)
    assert code == 0, error
    code, out, error = _troupe(demo, "days", "compare", *one, "--json")
    assert code == 0, error
    compared = json.loads(out)
    assert compared["days"][0]["difference"] == 0
    assert {event["difference"] for event in compared["events"]} == {0}
    assert "page_view" in {event["event_name"] for event in compared["events"]}
    code, out, _ = _troupe(demo, "days", "compare", *one)
    assert (code, "page_view" in out) == (0, True)


def test_import_shows_how_it_went(demo: Demo) -> None:
    tenant = demo.tenants[0]
    code, out, error = _troupe(demo, "import", tenant.name, "--again", "--json")
    assert code == 0, error
    job = json.loads(out)
    assert (job["kind"], job["state"], job["done"], job["total"]) == (
        "import_master_data",
        "done",
        2,
        2,
    )
    code, out, error = _troupe(demo, "jobs", "errors", tenant.name, job["id"])
    assert (code, out.lstrip("\ufeff").partition(",")[0]) == (0, "file"), error
    code, out, error = _troupe(demo, "import", tenant.name)
    assert (code, "done" in out) == (0, True), error
    code, _, error = _troupe(demo, "import", "Nobody")
    assert (code, "no tenant" in error) == (4, True)


def test_mistakes_are_one_line_each(demo: Demo) -> None:
    tenant = demo.tenants[0].name
    day = ("--from", "2026-01-02", "--to", "2026-01-02")
    backwards = ("--from", "2026-01-02", "--to", "2026-01-01")
    for arguments, expected, says in (
        (("ingest", "Nobody", *day), 4, "no tenant"),
        (("ingest", tenant, *backwards), 4, "before"),
        (("ingest", tenant, *day), 7, "no events table"),
        (("jobs", "show", tenant, "00000000-0000-7000-8000-000000000000"), 4, "no such job"),
        (("jobs", "errors", tenant, "00000000-0000-7000-8000-000000000000"), 4, "no such job"),
        (("days", "compare", tenant, *backwards), 4, "before"),
        (("days", "list", tenant, *backwards), 4, "before"),
        (("tenants", "invite", tenant, "nobody"), 4, "not valid"),
    ):
        code, _, error = _troupe(demo, *arguments)
        lines = [line for line in error.splitlines() if line.startswith("troupe: ")]
        assert (code, len(lines)) == (expected, 1), error
        assert says in lines[0]
        assert "Traceback" not in error


def test_wrong_credentials_are_one_sentence_on_the_job(demo: Demo) -> None:
    tenant = demo.tenants[0]
    path = f"/api/v1/tenants/{tenant.id}/connections/bigquery"
    answer = tenant.get("auth", path)
    assert answer.status_code == 200, answer.text
    assert "private_key" not in answer.text


def test_status_draws_every_group(demo: Demo) -> None:
    code, out, error = _troupe(demo, "status")
    assert code == 0, error
    for name in ("auth", "data", "analytics", "database", "jobs", "http"):
        assert name in out
