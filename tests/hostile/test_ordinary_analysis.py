"""No false walls: ordinary analysis runs to the right result in every tier that this machine has."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from ordinary_program import Picture, Program
from ordinary_programs import FAMILIES, faults, orders, picture, shows, together
from runsc import runsc

from consumers.delivery.download import V8_ADDRESS_BYTES
from consumers.ports import Limits, Sandbox, SandboxReport, SandboxTask
from consumers.sandbox.tiers import TIERS, open_tier

LIMITS = Limits(wall_seconds=150, cpu_seconds=120)


pytestmark = pytest.mark.asyncio(loop_scope="module")

OFTEN = ("namespaces", "landlock")


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[tier if tier in OFTEN else pytest.param(tier, marks=pytest.mark.long) for tier in TIERS],
)
async def sandbox(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    program = runsc() if request.param == "gvisor" else None
    async with open_tier(request.param, tmp_path_factory.mktemp("sandbox"), runsc=program) as opened:
        yield opened


async def run(
    sandbox: Sandbox,
    call: str,
    folder: Path,
    *,
    code: str | None = None,
    inputs: Mapping[str, Path] | None = None,
    limits: Limits = LIMITS,
) -> SandboxReport:
    """Run a function of the guest, over the orders if it is given code."""
    arguments: dict[str, Any] = {}
    if code is not None:
        pq.write_table(orders(), folder / "orders.parquet")
        arguments = {"code": code, "tables": [{"name": "orders", "file": "0.parquet"}]}
        inputs = {"0.parquet": folder / "orders.parquet"}
    output = folder / "output"
    output.mkdir()
    return await sandbox.run(SandboxTask(call, arguments, inputs=inputs or {}, output=output, limits=limits))


async def result(sandbox: Sandbox, code: str, folder: Path) -> tuple[dict[str, list[Any]], str]:
    """The first table that a program comes to, and what was printed."""
    report = await run(sandbox, "consumers.sandbox.guest.run_code:run_query", folder, code=code)
    table = pq.read_table(folder / "output" / report.value["tables"][0]["file"])
    return table.to_pydict(), report.printed


@pytest.mark.parametrize("family", FAMILIES)
async def test_ordinary_programs_come_to_the_right_results(family: str, sandbox: Sandbox, tmp_path: Path) -> None:
    programs = FAMILIES[family]

    found, printed = await result(sandbox, together(programs), tmp_path)

    outcomes = zip(programs, map(json.loads, found["outcome"]), strict=True)
    wrong = {program.name: problems for program, outcome in outcomes if (problems := faults(program, outcome))}
    assert wrong == {}
    assert printed == ""


@pytest.mark.long
@pytest.mark.parametrize(
    "program", [each for family in FAMILIES.values() for each in family], ids=lambda each: each.name
)
async def test_an_ordinary_program_by_itself_comes_to_the_right_result(
    program: Program, sandbox: Sandbox, tmp_path: Path
) -> None:
    columns, printed = await result(sandbox, program.code, tmp_path)

    plain = json.loads(json.dumps(columns, default=str))
    assert faults(program, {"columns": plain, "printed": printed, "failed": ""}) == []


CHART = """
totals = df.groupby("region", as_index=False)["units"].sum()
chart = (
    alt.Chart(totals, title="Stück je Region", width=300, height=200)
    .mark_bar(color="green")
    .encode(x="region:N", y="units:Q", tooltip=["region", "units"])
)
"""


async def test_a_chart_by_altair_is_made_and_drawn(sandbox: Sandbox, tmp_path: Path) -> None:
    (made := tmp_path / "made").mkdir()
    (drawn := tmp_path / "drawn").mkdir()

    report = await run(sandbox, "consumers.sandbox.guest.run_code:run_chart", made, code=CHART)
    drawing = await run(
        sandbox,
        "consumers.delivery.guest.charts:export_chart",
        drawn,
        inputs={"chart.vl.json": made / "output" / "chart.vl.json"},
        limits=replace(LIMITS, address_bytes=V8_ADDRESS_BYTES),
    )

    (rows,) = json.loads((made / "output" / "chart.vl.json").read_text())["datasets"].values()
    assert {row["region"]: row["units"] for row in rows} == {"East": 14, "North": 14, "South": 8, "West": 11}
    svg = (drawn / "output" / "chart.svg").read_text(encoding="utf-8")
    assert "Stück je Region" in svg
    png = (drawn / "output" / "chart.png").read_bytes()
    assert shows(picture(png), Picture(688, 562, {(255, 255, 255): 0.45, (0, 128, 0): 0.4}))
    assert (report.printed, drawing.printed) == ("", "")
