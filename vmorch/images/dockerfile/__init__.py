"""Dockerfiles: text -> stages of instructions -> resolved steps and a run configuration.

The parser is our own. The official one, wrapped for Python, carries no line in its errors, lets
unknown instructions and flags pass, does not strip `<<-`, and brings a Go runtime with threads
into the daemon; behind it we would still need all of the validation here. What Docker does is
written down (the Dockerfile reference, and BuildKit's `frontend/dockerfile`) and small: logical
lines, heredocs, words, substitution. Each of these is a module here with a table of cases.

`lines` joins continued lines and takes out heredocs; `words` splits and substitutes; `makers`
and `parse` make instructions and collect every mistake; `stage` follows ENV, ARG, WORKDIR …
and turns instructions into steps with nothing left to substitute.
"""
