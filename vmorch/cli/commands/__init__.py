"""One module for each command or group; `vmorch.cli.main` lists them and imports none itself."""
