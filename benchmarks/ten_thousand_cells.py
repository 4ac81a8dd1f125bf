"""How long a folder of ten thousand records takes: to plan, to scan before a sweep goes on, to read, to report.

    python benchmarks/ten_thousand_cells.py                  20 sparsities × 500 seeds of wanda, and the report's tables
    python benchmarks/ten_thousand_cells.py --seeds 50       a thousand
    python benchmarks/ten_thousand_cells.py --profile        where the tables' time goes

The records are copies of one, each with its own cell's identity, written as a sweep writes them, arrays beside them.
"""

import argparse
import cProfile
import pstats
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from prunebench.records.arrays import ArrayStore
from prunebench.records.quarantine import successful_record
from prunebench.records.record import CellFacts
from prunebench.records.store import read_arrays, read_record, read_records, write_record
from prunebench.report.output import text_tables as render
from prunebench.report.output import tidy
from prunebench.report.sections import all_tables
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan

SUITE = """
name: ten-thousand
models: [builtin/tinyworld-llama-300k]
calibration: {{corpus: builtin/tinyworld, nsamples: 64, seqlen: 128}}
sparsities: [{sparsities}]
seeds: [{seeds}]
methods: [wanda]
evaluations: [{{name: perplexity, corpus: builtin/tinyworld, seqlen: 128}}]
"""
MODEL = Path(__file__).parents[1] / "results" / "reference" / "smoke"


@contextmanager
def told(what: str) -> Iterator[None]:
    """Say how long something took."""
    began = time.perf_counter()
    yield
    sys.stdout.write(f"{what:<40}{time.perf_counter() - began:9.2f} s\n")
    sys.stdout.flush()


def main() -> None:
    """Write the records and time what reads them."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seeds", type=int, default=500)
    words.add_argument("--profile", action="store_true")
    asked = words.parse_args()
    with TemporaryDirectory() as place:
        folder = Path(place) / "results"
        suite = Path(place) / "suite.yaml"
        sparsities = ", ".join(f"{0.05 * step:.2f}" for step in range(20))
        suite.write_text(SUITE.format(sparsities=sparsities, seeds=", ".join(map(str, range(asked.seeds)))))
        with told("plan"):
            cells = plan(load_suite(suite))
            names = [cell.id for cell in cells]
        template = next(path for path in sorted(MODEL.glob("*.json")) if read_record(path).cell.method == "wanda")
        like, arrays = read_record(template), read_arrays(template)
        with told(f"write {len(cells)} records"):
            for cell in cells:
                facts = CellFacts.model_validate(cell.model_dump(mode="json"))
                write_record(folder, like.model_copy(update={"cell": facts}), arrays)
        size = sum(path.stat().st_size for path in folder.iterdir())
        sys.stdout.write(f"{len(names)} records and their arrays, {size / 1e6:.0f} MB\n")
        with told("scan, as before a sweep goes on"):
            assert all(successful_record(folder, name) for name in names)
        with told("read"):
            records = read_records(folder)
        with cProfile.Profile() as profile, told("tables, with paired tests"):
            found = all_tables(records, array_store=ArrayStore(folder))
        if asked.profile:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(40)
        with told("as text"):
            render.to_terminal(found)
        with told("as CSV"):
            tidy.to_csv(records)


if __name__ == "__main__":
    main()
