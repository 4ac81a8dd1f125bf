"""What a paper takes from a report: sizes, one table for all models, references, and TeX that compiles."""

import math
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from prunebench.errors import MethodError
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import MethodFacts, Record
from prunebench.records.store import read_records, write_record
from prunebench.registry.citations import with_citations
from prunebench.registry.entry_points import load_method
from prunebench.report.output.text_tables import escape_latex, to_latex
from prunebench.report.paper import STYLES
from prunebench.report.paper.citation import keys_of
from prunebench.report.paper.figures import figures
from prunebench.report.paper.files import NEEDS, latex_tables, paper_texts
from prunebench.report.paper.paragraph import methods_paragraph
from prunebench.report.paper.references import bibtex, refused_citations
from prunebench.report.plots.matplotlib_svg import draw_plot
from prunebench.report.plots.perplexity_plots import perplexity_plots
from prunebench.report.scenes import Scenes
from prunebench.report.sections import all_tables
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.command_line import one_line, prunebench
from tests.helpers.observers import SilentDisplay
from tests.helpers.paths import ROOT
from tests.helpers.records import ARRAYS, record

EXTREME = ROOT / "results" / "reference" / "extreme"
OWN = """@inproceedings{mine2026,
  title = {Mine},
  author = {Me, Myself},
  booktitle = {Proceedings},
  year = {2026},
}"""


def cited(found: Record, *cites: str) -> Record:
    return found.model_copy(update={"method": MethodFacts(changes="prunable", takes_data=True, cites=cites)})


@pytest.fixture(scope="module")
def extreme() -> list[Record]:
    return read_records(EXTREME)


class TestFigures:
    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("apart", [False, True])
    def test_they_are_as_wide_as_the_template_asks(self, extreme: list[Record], style: str, apart: bool) -> None:
        """Widths of the venues' templates, in inches: NeurIPS 5.5; ICML 6.75 and 3.25; ACL 16 cm and 7.7 cm."""
        text, column = {"neurips": (5.5, 5.5), "icml": (6.75, 3.25), "acl": (6.299, 3.031)}[style]
        plots = [plot for plot in perplexity_plots(Scenes.of(extreme).texts) if not plot.sideways]
        drawn = figures(plots, STYLES[style], "svg", apart=apart)
        assert len(drawn) == (2 if apart else 1)
        for content in drawn.values():
            wide = float(re.search(rb'<svg [^>]*width="([\d.]+)pt"', content)[1])  # type: ignore[index]
            assert wide / 72 == pytest.approx(column if apart else text, abs=0.002)

    def test_nothing_is_baked_in(self, extreme: list[Record]) -> None:
        """No titles; panels that stand together are told apart by their model."""
        plots = [plot for plot in perplexity_plots(Scenes.of(extreme).texts) if not plot.sideways]
        (together,) = figures(plots, STYLES["icml"], "svg", apart=False).values()
        for content in figures(plots, STYLES["icml"], "svg", apart=True).values():
            assert b"Perplexity of" not in content
            assert b"tinyworld" not in content
        assert b"Perplexity of" not in together
        assert together.count(b"tinyworld-opt-1m") == 1
        assert b"STIXGeneral" in together
        assert figures(plots, STYLES["icml"], "pdf", apart=False) == figures(plots, STYLES["icml"], "pdf", apart=False)

    def test_panels_have_the_same_limits(self, extreme: list[Record]) -> None:
        plots = [plot for plot in perplexity_plots(Scenes.of(extreme).texts) if not plot.sideways]
        figure = Figure()
        limits = []
        for number, plot in enumerate(plots):
            axes = figure.add_subplot(1, 2, number + 1)
            draw_plot(axes, plot, plots)
            limits.append((axes.get_xlim(), axes.get_ylim()))
        assert len(plots) == 2
        assert limits[0] == limits[1]


class TestTable:
    def test_all_models_are_in_one(self, extreme: list[Record]) -> None:
        shown = latex_tables(Scenes.of(extreme), ArrayStore(EXTREME)).partition("Zero-shot")[0]
        table = shown.partition(r"\end{table*}")[0]
        for part in (r"\begin{table*}", r"\label{tab:perplexity}", r"\toprule", r"\midrule", r"\bottomrule"):
            assert part in table
        assert table.count(r"\textit{tinyworld-") == 2
        assert table.count("dense & -- & --") == 2
        assert r"\multicolumn{3}{c}{2.654}" in table
        assert r"2:4 \\" in table

    def test_what_failed_is_told_and_does_not_compete(self) -> None:
        records = [record("dense", "0", value=2), record("a", value=3), record("a", seed=1, error="x")]
        records += [record("b", error="x"), record("b", "0.9", value=4)]
        table = latex_tables(Scenes.of(records), None)
        assert "3.000 (a seed failed)" in table
        assert re.search(r"^b & .* & failed & 4.000 \\\\$", table, re.MULTILINE)

    def test_labels_of_all_tables_are_unlike(self, extreme: list[Record]) -> None:
        labels = re.findall(r"\\label\{(.*?)\}", to_latex(all_tables(extreme)))
        assert len(labels) == len(set(labels)) > 5
        assert all(re.fullmatch(r"tab:[a-z0-9-]+", label) for label in labels)

    def test_letters_that_tex_does_not_know(self) -> None:
        assert escape_latex("λ: 2·x ≥ 1 …") == (
            r"\ensuremath{\lambda}: 2\ensuremath{\cdot}x \ensuremath{\geq} 1 \ldots{}"
        )


ENTRY = "@misc{k, title = {T}}"


COMMANDS = """input include write immediate openout catcode def edef gdef let newcommand csname begin special read
    expandafter ifeof loop usepackage directlua pdfobj ShellEscape verbatiminput bibliography cite href"""


class TestCitations:
    @pytest.mark.parametrize(
        ("citation", "keys"),
        [
            ("2306.11695", ("arxiv-2306.11695",)),
            (OWN, ("mine2026",)),
            ("@Article{a:b_1/c+d-e.f,}", ("a:b_1/c+d-e.f",)),
            ("@misc{k}", ("k",)),
            (f"{ENTRY}\n\n @book{{l , year=1999 , month = jan # {{~1}}, note={{\\'{{e}}}}, }}\n", ("k", "l")),
            ('@misc{k, title = "A {"}quoted{"} title" # jan, note = "50\\%"}', ("k",)),
            (
                r"@misc{k, title = {{G}{\"o}del, Erd{\H o}s, \v{S}, \O{}re: $\ell_0$ and \emph{more} \&}}",
                ("k",),
            ),
            ("@misc{k, url = {https://example.org/a%20b_c}}", ("k",)),
        ],
    )
    def test_what_bibtex_takes(self, citation: str, keys: tuple[str, ...]) -> None:
        assert keys_of(citation) == keys

    @pytest.mark.parametrize(
        ("citation", "why"),
        [
            *((rf"@misc{{k, title = {{\{name}{{x}}}}}}", rf"TeX command \\{name}$") for name in COMMANDS.split()),
            (r"@misc{k, title = {\@input x}}", r"TeX command \\@"),
            (r"@misc{k, title = {^^5cinput x}}", r"\^\^"),
            ("@misc{k, title = {a % b}}", "% without a backslash"),
            ("@misc{k, title = {a", "not balanced"),
            ("@misc{k, title = {a}} }", "no BibTeX entry"),
            ("@misc{k, title = {a}}\n\\input{x}", "no BibTeX entry"),
            ("@misc{k, title = {a}", "do not end"),
            ("@misc{k, title = a b}", "do not end"),
            ("@misc{k, title = }", "no value"),
            ("@misc{a}b, title = {c}}", "no BibTeX entry"),
            (r"@misc{a\b, title = {c}}", "key"),
            ("@misc{, title = {c}}", "key"),
            (f"@misc{{{'k' * 101}, title = {{c}}}}", "key"),
            ("@preamble{k, title = {c}}", "@preamble is no entry"),
            ("@STRING{k = {c}}", "no"),
            ("@comment{k}", "@comment is no entry"),
            ("@misc{k, title = {a\x00}}", "control characters"),
            (f"@misc{{k, title = {{{'a' * 10_000}}}}}", "10020 characters"),
            ("2306.11695}\n\\input{x}", "neither an arXiv number"),
            ("\u0662306.11695", "neither an arXiv number"),
            ("", "neither an arXiv number"),
        ],
    )
    def test_what_may_not_reach_tex(self, citation: str, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            keys_of(citation)

    def test_it_is_left_out_and_told(self) -> None:
        evil = "@misc{evil, title = {\\input{/etc/passwd}}}"
        records = [cited(record("bad"), evil), cited(record("good"), ENTRY), cited(record("mixed"), evil, "2306.11695")]
        records += [cited(record("same"), ENTRY), cited(record("other", "0.9"), "@misc{k, title = {Another}}")]
        found, said = bibtex(records), methods_paragraph(records)
        assert "input{" not in found
        assert found.count("@misc{k,") == 1
        assert "% Left out, what bad is cited with: it holds the TeX command \\input." in found
        assert "% Left out, what other is cited with: the key k is that of another entry." in found
        assert "do not say" not in found
        assert "bad, good" in said
        assert r"good~\cite{k}" in said
        assert r"same~\cite{k}" in said
        assert r"mixed~\cite{arxiv-2306.11695}" in said
        assert len(refused_citations(records)) == 3


class TestReferences:
    def test_each_once_and_nothing_that_is_not_known(self) -> None:
        records = [cited(record("wanda"), "2306.11695"), cited(record("w9", "0.9"), "2306.11695")]
        records += [cited(record("mine"), OWN), record("magnitude"), record("dense", "0")]
        found = bibtex(records)
        assert found.count("@misc{arxiv-2306.11695,") == 1
        assert "% wanda, w9\n@misc" in found or "% w9, wanda\n@misc" in found
        assert OWN in found
        assert "These do not say what they are cited with: magnitude." in found
        entry = found[found.index("@misc{arxiv") :].partition("\n}")[0]
        assert set(re.findall(r"^  (\w+) ", entry, re.MULTILINE)) == {
            *("key", "howpublished", "eprint", "archiveprefix", "url", "year")
        }, "neither title nor authors, which a number does not tell"
        assert "@misc{prunebench," in found

    def test_built_ins_declare_the_numbers_of_their_own_pages(self) -> None:
        for name in ("wanda", "sparsegpt", "admm", "alps", "elsa", "elsa-l", "gmp", "maskllm", "swaps", "perp"):
            cites = load_method(name).cites
            page = (ROOT / "docs" / "methods" / f"{name}.md").read_text()
            source = "".join(path.read_text() for path in (ROOT / "plugins" / "prunebench_plugins").rglob("*.py"))
            assert cites, name
            assert all(one in page or f"arXiv {one}" in source for one in cites), name

    def test_records_from_before_are_completed_by_what_is_installed(self) -> None:
        old, unknown = record("wanda", plugin="wanda"), record("gone", plugin="gone")
        assert old.method is None or not old.method.cites
        completed = with_citations([old, unknown, cited(record("wanda", plugin="wanda"), OWN)])
        assert [r.method.cites if r.method else () for r in completed] == [("2306.11695",), (), (OWN,)]

    @pytest.mark.parametrize("cites", ["2306.11695", ("arXiv:2306.11695",), ("Sun et al.",), (2306.11695,)], ids=str)
    def test_what_is_no_citation_is_refused(self, cites: object, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        file.write_text(PLUGIN.replace("CITES", repr(cites)))
        with pytest.raises(MethodError, match=r"cites = .*give a tuple of arXiv numbers"):
            load_method("mine", [file])

    def test_a_third_party_is_cited(self, write_suite: Callable[..., Path], tmp_path: Path) -> None:
        """From the class, through plan and run, into the record; with the method that follows."""
        file = tmp_path / "mine.py"
        file.write_text(PLUGIN.replace("CITES", repr((OWN,))))
        path = write_suite(
            sparsities="sparsities: [0.5]",
            methods="methods: [{name: mine, then: {name: retrain, options: {steps: 1, batch_size: 1}}}]",
        )
        cells = plan(load_suite(path), plugin_files=[file])
        assert cells[0].cites == (OWN, "1506.02626")
        uncited = tmp_path / "other" / "mine.py"
        uncited.parent.mkdir()
        uncited.write_text(PLUGIN.replace("CITES", "()"))
        (plain,) = plan(load_suite(path), plugin_files=[uncited])
        assert "cites" in cells[0].to_json()
        assert plain.identity.keys() == cells[0].identity.keys()
        run_suite(cells, tmp_path / "out", SilentDisplay())
        (found,) = read_records(tmp_path / "out")
        assert found.status == "ok", found.error
        assert found.method is not None
        assert found.method.cites == (OWN, "1506.02626")
        assert OWN in bibtex([found])


PLUGIN = '''
from dataclasses import dataclass
from typing import ClassVar
from prunebench import hookimpl
from prunebench.pruning import prunable

@dataclass(frozen=True)
class Mine:
    """Mine."""

    cites: ClassVar = CITES

    @hookimpl
    def prune(self, model, sparsity):
        for layer, target in prunable(model, sparsity):
            layer.weight.mul_(target.mask(layer.weight.abs()))
'''


@pytest.mark.parametrize(
    ("limit", "words"),
    [(100, ", the first 100 questions of each."), (0.1, r", the first 10 \% of the questions of each."), (None, ".")],
)
def test_the_paragraph_says_which_questions(limit: float | None, words: str) -> None:
    asked = {"name": "zero_shot", "tasks": ["boolq"], "num_fewshot": None, "limit": limit}
    made = record(evaluations=[asked, asked | {"noise": 0.05}])
    assert f"Accuracy is that of lm-eval on boolq and boolq-noise-0.05{words}" in methods_paragraph([made])


def test_the_paragraph_says_what_a_reader_must_know(extreme: list[Record]) -> None:
    said = methods_paragraph(with_citations(extreme))
    for part in (
        "tinyworld-llama-1m (weights ",
        "0.8, 0.9 and 2:4",
        r"wanda~\cite{arxiv-2306.11695}",
        r"prunebench~\cite{prunebench}",
        "128 windows of 128 tokens",
        r"tinyworld/\allowbreak{}stream-128",
        "one seed (0)",
        "torch 2.",
        "lm-eval 0.4",
        "the first 200 questions",
    ):
        assert part in said
    several = methods_paragraph([record("a", seed=seed) for seed in (0, 1, 2)])
    assert "standard deviation over 3 seeds (0, 1, 2)" in several
    assert "Hansen" in several
    assert methods_paragraph([record("dense", "0")])


class TestCommand:
    def test_a_folder(self, tmp_path: Path) -> None:
        for found in (record("dense", "0"), record("a", value=12.0)):
            write_record(tmp_path, found, ARRAYS)
        result = prunebench("report", tmp_path, "--style", "neurips")
        assert result.exit_code == 0, result.stderr
        names = {path.name for path in (tmp_path / "paper").iterdir()}
        assert {"tables.tex", "references.bib", "setup.tex"} <= names
        assert {str(tmp_path / "paper" / name) for name in names} == set(result.stdout.split())
        assert any(name.endswith(".pdf") for name in names)
        plots = prunebench(
            "report", tmp_path, "--style", "acl", "--format", "svg", "--panels", "apart", "-o", tmp_path / "s"
        )
        assert plots.exit_code == 0
        assert {path.suffix for path in (tmp_path / "s").iterdir()} == {".svg"}

    def test_formats_that_have_no_style(self, tmp_path: Path) -> None:
        write_record(tmp_path, record("a"), ARRAYS)
        for more in (["--format", "html"], ["--json"]):
            result = prunebench("report", tmp_path, "--style", "icml", *more)
            assert result.exit_code == 2
            assert "--style icml writes a folder" in one_line(result)


DOCUMENT = r"""
\documentclass[10pt,twocolumn]{article}
%s
\setlength{\textwidth}{%.3fin}\setlength{\columnsep}{%.3fin}\setlength{\textheight}{9in}
\begin{document}
\input{setup}
\input{tables}
%s
\bibliographystyle{plain}
\bibliography{references}
\end{document}
"""
FIGURE = "\\begin{figure*}\n\\centering\\includegraphics{%s}\n\\caption{One.}\n\\end{figure*}\n"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="TeX is not installed (pdflatex)")
@pytest.mark.parametrize("style", ["icml", "acl"])
def test_it_compiles_in_two_columns_without_an_overfull_box(extreme: list[Record], style: str, tmp_path: Path) -> None:
    """With many long names beside, so that the tables are wider than the page by themselves."""
    long = [
        record(f"a_method_with_a_long_name_{n}", f"0.{n}", seed=seed, value=100.0 + n)
        for n in range(1, 10)
        for seed in (0, 1)
    ]
    long += [cited(record("λ: greek & 100 % [odd]", "0.5"), OWN), record("dense", "0", value=math.inf)]
    records = with_citations([*extreme, *long])
    for name, content in paper_texts(records).items():
        (tmp_path / name).write_text(content)
    drawn = figures(perplexity_plots(Scenes.of(extreme).texts), STYLES[style], "pdf", apart=False)
    for name, figure in drawn.items():
        (tmp_path / f"{name}.pdf").write_bytes(figure)
    widths = STYLES[style]
    gap = widths.text_width - 2 * widths.column_width
    shown = "".join(FIGURE % f"{name}.pdf" for name in drawn)
    (tmp_path / "main.tex").write_text(DOCUMENT % (NEEDS.lstrip("% "), widths.text_width, gap, shown + "\\clearpage"))
    tex = "pdflatex -interaction=nonstopmode"
    for command in (tex, "bibtex", tex, tex):
        done = subprocess.run([*command.split(), "main"], cwd=tmp_path, capture_output=True, timeout=120, check=False)
        said = done.stdout.decode(errors="replace")
        assert done.returncode == 0, said[-3000:]
        assert "Warning--" not in said
    log = (tmp_path / "main.log").read_text(errors="replace")
    assert "Overfull" not in log, re.findall(r"Overfull.*\n.*", log)
    assert "Citation" not in log
    assert "\n!" not in log
