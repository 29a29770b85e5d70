"""`python -m benchmarks`: set up the peers, run the rows, write the table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from interpretops.models import SMOLLM2, HookedModel

from benchmarks.data import activation_file, model_folder, token_file
from benchmarks.driver import ROOT, run_row
from benchmarks.environments import OURS, set_up
from benchmarks.results import machine, merge, table
from benchmarks.rows import ROWS, Row

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
TABLE = "RESULTS.md"


def main() -> None:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "what", nargs="?", choices=("setup", "run", "table", "all"), default="all",
        help="setup makes the peers' environments; run measures; table writes RESULTS.md",
    )  # fmt: skip
    parser.add_argument("--row", action="append", choices=sorted(ROWS), help="only this row")
    parser.add_argument("--case", action="append", default=[], help="only this case of the row")
    parser.add_argument("--model", default=SMOLLM2, help="the model all contestants load")
    parser.add_argument("--rounds", type=int, help="timed repetitions; few, to try things out")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where figures are kept")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / ".io_cache", help="where model and data are kept"
    )
    arguments = parser.parse_args()
    rows = [ROWS[name] for name in arguments.row or ROWS]
    if arguments.what in ("setup", "all"):
        set_up_rows(rows)
    if arguments.what in ("run", "all"):
        run_rows(rows, arguments)
    if arguments.what != "setup":
        results = arguments.results
        results.with_name(TABLE).write_text(table(json.loads(results.read_text())))


def set_up_rows(rows: list[Row]) -> None:
    """Make the environments of the rows' contestants; a failure leaves that peer out."""
    wanted = {c.environment for row in rows for c in row.contestants}
    set_up(tuple(sorted(wanted - {OURS})))


def run_rows(rows: list[Row], arguments: argparse.Namespace) -> None:
    """Measure rows one after another; each is written as soon as it is done."""
    cache: Path = arguments.cache.resolve()
    folder = model_folder(arguments.model, cache)
    hooked = HookedModel(str(folder), dtype="float32", device=arguments.device)
    options = {
        "device": arguments.device,
        "model": str(folder),
        "tokens": str(token_file(hooked, cache)),
    }
    if any("activations" in row.needs for row in rows):
        options["activations"] = str(activation_file(hooked, cache))
    del hooked
    about = machine(arguments.device)
    with (cache / "benchmarks" / "contestants.log").open("a") as log:
        for row in rows:
            result = run_row(
                row, options, log=log, cases=tuple(arguments.case), rounds=arguments.rounds
            )
            merge(arguments.results, row.name, about, result)


if __name__ == "__main__":
    main()
