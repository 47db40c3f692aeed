"""The command line: ``wanoffload generate | plan | inspect | doctor | bench | demo``."""

from wanoffload.cli.main import main

__all__ = ["main"]
