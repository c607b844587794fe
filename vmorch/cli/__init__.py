"""The command line: a thin user of `vmorch.client`. Each command is imported when it is called."""

import os

# Typer reads it when it is imported: help and errors are plain text, and Rich, which would cost
# more than all the rest of a short command, is loaded for live progress alone.
os.environ["TYPER_USE_RICH"] = "0"
