"""How every program reads its command line: no abbreviations, examples in its help, completion in a shell."""

import argparse
import os
import textwrap
from collections.abc import Sequence
from typing import Any


class Parser(argparse.ArgumentParser):
    """A parser whose help ends with examples.

    Where a shell asks for completions (argcomplete sets ``_ARGCOMPLETE``), it gives them instead of parsing.

    Args:
        prog: ``train.py``, or ``python -m hw_base.check``.
        description: what the program does.
        examples: arguments that it may be given.
        epilog: what the help says besides.
    """

    def __init__(self, prog: str, description: str, examples: Sequence[str], epilog: str = "") -> None:
        command = prog if prog.startswith("python ") else f"python {prog}"
        shown = "\n".join(["examples:", *(f"  {command} {example}".rstrip() for example in examples)])
        super().__init__(
            prog=prog,
            description="\n".join(textwrap.wrap(description, 100)) if "\n" not in description else description,
            epilog="\n\n".join(filter(None, ["\n".join(textwrap.wrap(epilog, 100)), shown])),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in the base class."""
        if "_ARGCOMPLETE" in os.environ:
            try:
                import argcomplete
            except ImportError:  # the shell's own Python has it, this one has not
                self.exit(1)
            argcomplete.autocomplete(self)
        return super().parse_args(args, namespace)
