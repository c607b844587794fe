"""Benchmarks: figures as ratios within one run. Run by script/bench, inside a lab."""
