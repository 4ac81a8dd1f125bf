"""The command line as a whole: its help, its version, wrong usage."""

import os
import subprocess
import sys

import pytest

from tests.helpers.command_line import prunebench


class TestHelp:
    def test_help_imports_nothing_heavy(self) -> None:
        code = (
            "import sys; sys.argv = ['prunebench', '--help']\n"
            "from prunebench.cli.app import main\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            "heavy = {'torch', 'transformers', 'pydantic', 'datasets', 'lm_eval', 'numpy', 'rich'} & set(sys.modules)\n"
            "sys.exit(', '.join(sorted(heavy)) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        for command in ("run", "plan", "report", "compare", "methods"):
            assert f"\n  {command} " in done.stdout

    def test_completion_knows_commands_and_values(self) -> None:
        """As bash asks for it, by the variable that the installed script sets."""
        for words, number, expected in (
            ("prunebench re", 1, {"report", "reproduce"}),
            ("prunebench report --style ", 3, {"neurips", "icml", "acl"}),
            ("prunebench methods wan", 2, {"wanda"}),
            ("prunebench run suite.yaml --only els", 4, {"elsa", "elsa-l"}),
        ):
            done = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    "import sys; sys.argv = ['prunebench']; from prunebench.cli.app import main; main()",
                ],
                env=os.environ
                | {"_PRUNEBENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert set(done.stdout.split()) == expected, done.stderr

    def test_version(self) -> None:
        assert prunebench("--version").stdout.startswith("prunebench 0.")

    @pytest.mark.parametrize("words", [["frobnicate"], ["run"], ["report"], ["report", "x", "--format", "docx"]])
    def test_wrong_usage_exits_2(self, words: list[str]) -> None:
        result = prunebench(*words)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Usage:" in result.stderr
