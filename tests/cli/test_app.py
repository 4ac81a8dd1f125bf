"""The command line as a whole: its help, its version, wrong usage."""

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

    def test_version(self) -> None:
        assert prunebench("--version").stdout.startswith("prunebench 0.")

    @pytest.mark.parametrize("words", [["frobnicate"], ["run"], ["report"], ["report", "x", "--format", "docx"]])
    def test_wrong_usage_exits_2(self, words: list[str]) -> None:
        result = prunebench(*words)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Usage:" in result.stderr
