"""The command line: a thin user of `vmorch.client`. Each command is imported when it is called."""
