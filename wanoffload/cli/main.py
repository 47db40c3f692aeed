"""The parser and the exit codes: 0 done, 1 failed (one line says why), 2 the command was not understood."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from wanoffload.cli import bench, demo, doctor, generate, inspect

_DESCRIPTION = """\
Text, image and video to video with WAN, on a C core that streams weights.

However the weights are offloaded, the same prompt and seed give the same film, bit for bit: offloading costs
time or memory, never quality.

first steps:
  wanoffload demo                        make a film with the small model that comes with the package
  wanoffload doctor                      what this machine can do, and why
  wanoffload plan MODEL --vram 8GiB      what a film would need, before anything runs
  wanoffload generate MODEL --prompt "a cat baking a cake" -o cat.mp4
  wanoffload generate MODEL --image cat.png --prompt "the cat turns its head" -o cat.mp4
"""
_EPILOG = """\
exit codes: 0 done, 1 failed (one line says why; --debug shows where), 2 the command was not understood.
environment: WANOFFLOAD_NUM_THREADS sets the threads that compute.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(
        prog="wanoffload",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for module in (generate, inspect, doctor, bench, demo):
        module.add_commands(commands)
    for command in set(commands.choices.values()):
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.add_argument("--debug", action="store_true", help="on failure, show the whole traceback")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: The words after ``wanoffload``; those of the process when None.

    Returns:
        The exit code.
    """
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.version:
        import wanoffload

        print(f"wanoffload {wanoffload.__version__}")
        return 0
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        if options.debug:
            traceback.print_exc()
        print("interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:  # the boundary to the shell: whatever went wrong is one line there
        if options.debug:
            traceback.print_exc()
        print(f"wanoffload: error: {one_line(error)}", file=sys.stderr)
        return 1


def one_line(error: BaseException) -> str:
    """An error's text without line breaks; its class where there is no text."""
    return " ".join(str(error).split()) or type(error).__name__
