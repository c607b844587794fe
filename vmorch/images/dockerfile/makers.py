"""One logical line -> one instruction; a function for each keyword."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from vmorch.images.dockerfile.instructions import (
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Run,
    Shell,
    StopSignal,
    User,
    Workdir,
)
from vmorch.images.dockerfile.lines import LogicalLine, is_heredoc_word
from vmorch.images.dockerfile.mistakes import Mistake, did_you_mean
from vmorch.images.dockerfile.mounts import mount_of
from vmorch.images.dockerfile.values import NO_GIT, checksum_of, number_of
from vmorch.images.dockerfile.words import raw_words, unquoted

_REFUSED = {
    "ONBUILD": "instructions for later builds are not supported; write them where they apply",
    "VOLUME": "a virtual machine's disk outlives its service, so there are no anonymous volumes; "
    "declare 'volumes:' in the vmorch file",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*\Z")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def instruction_of(line: LogicalLine, escape: str) -> Instruction:
    """Raises Mistake or BadWord."""
    keyword, rest = _first_word(line.text)
    keyword = keyword.upper()
    if keyword in _REFUSED:
        raise Mistake(_REFUSED[keyword])
    make = _MAKERS.get(keyword)
    if make is None:
        known = did_you_mean(keyword, [*_MAKERS, *_REFUSED])
        raise Mistake(f"unknown instruction '{keyword}'{known}")
    if not rest:
        raise Mistake("nothing follows the instruction")
    return make(line, rest, escape)


def _first_word(text: str) -> tuple[str, str]:
    word, *rest = text.split(maxsplit=1)
    return word, rest[0] if rest else ""


def _flags(rest: str, known: dict[str, str], escape: str) -> tuple[dict[str, str], str]:
    """Leading `--name=value` words. `known` maps a flag to "" or to why it is refused."""
    found, rest = _repeated_flags(rest, known, escape)
    for name, values in found.items():
        if len(values) > 1:
            raise Mistake(f"--{name} appears twice")
    return {name: values[0] for name, values in found.items()}, rest


def _repeated_flags(
    rest: str, known: dict[str, str], escape: str
) -> tuple[dict[str, list[str]], str]:
    found: dict[str, list[str]] = {}
    while rest.startswith("--"):
        word = raw_words(rest, escape)[0]
        after = rest[len(word) :]
        name, has_value, value = unquoted(word[2:], escape).partition("=")
        if name not in known:
            raise Mistake(f"unknown flag '--{name}'{did_you_mean(name, known)}")
        if known[name]:
            raise Mistake(f"--{name}: {known[name]}")
        if not has_value or not value:
            raise Mistake(f"--{name} needs a value: --{name}=…")
        found.setdefault(name, []).append(value)
        rest = after.lstrip()
    return found, rest


def _json_words(text: str) -> tuple[str, ...] | None:
    """The words of a JSON array of strings; None when the text is no JSON, as Docker decides.

    Raises Mistake: it is an array of something else, or no words for a command line.
    """
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    for word in value:
        if not isinstance(word, str):
            raise Mistake(f"the array may hold strings alone, not {json.dumps(word)[:40]}")
        if "\0" in word or any("\ud800" <= char <= "\udfff" for char in word):
            raise Mistake(f"{json.dumps(word)[:40]} is no text")
    return tuple(value)


def _command(text: str) -> Command:
    words = _json_words(text)
    return Command((text,), is_shell=True) if words is None else Command(words, is_shell=False)


def _pairs(rest: str, escape: str) -> tuple[tuple[str, str], ...]:
    """`a=1 b="2 3"`, or the old form `a the rest`. Values keep quotes for the substitution."""
    words = raw_words(rest, escape)
    if "=" not in words[0]:
        name, value = _first_word(rest)
        if not value:
            raise Mistake(f"'{name}' has no value: write {name}=VALUE")
        return ((name, value),)
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Mistake(f"'{word}' has no value: write {word}=VALUE, or quote what has spaces")
        if not name:
            raise Mistake(f"'{word}' has no name before its '='")
        pairs.append((name, value))
    return tuple(pairs)


def _from(line: LogicalLine, rest: str, escape: str) -> Instruction:
    flags, rest = _flags(rest, {"platform": ""}, escape)
    words = rest.split()
    if len(words) not in {1, 3} or (len(words) == 3 and words[1].upper() != "AS"):
        raise Mistake("the form is FROM IMAGE [AS NAME]")
    name = words[2].lower() if len(words) == 3 else ""
    if name and not _STAGE_NAME.match(name):
        raise Mistake(
            f"'{name}' cannot name a stage: a letter, then letters, digits, '.', '_', '-'"
        )
    platform = flags.get("platform", "")
    return From(line=line.line, text=line.text, image=words[0], name=name, platform=platform)


def _arg(line: LogicalLine, rest: str, escape: str) -> Instruction:
    values: list[tuple[str, str | None]] = []
    for word in raw_words(rest, escape):
        name, equals, value = word.partition("=")
        if not _NAME.match(name):
            raise Mistake(f"'{name}' cannot name a variable")
        values.append((name, value if equals else None))
    return Arg(line=line.line, text=line.text, values=tuple(values))


def _env(line: LogicalLine, rest: str, escape: str) -> Instruction:
    return Env(line=line.line, text=line.text, values=_pairs(rest, escape))


def _label(line: LogicalLine, rest: str, escape: str) -> Instruction:
    return Label(line=line.line, text=line.text, values=_pairs(rest, escape))


def _maintainer(line: LogicalLine, rest: str, escape: str) -> Instruction:
    return Label(line=line.line, text=line.text, values=(("maintainer", f"'{rest}'"),))


def _run(line: LogicalLine, rest: str, escape: str) -> Instruction:
    sandbox = "every step is isolated in the same way"
    known = {"mount": "", "network": "", "security": sandbox}
    flags, rest = _repeated_flags(rest, known, escape)
    if not rest:
        raise Mistake("nothing follows the flags")
    command = _command(rest)
    if not command.words:
        raise Mistake("the array names no program")
    network = flags.get("network", ["default"])[-1]
    if network not in {"default", "none"}:
        raise Mistake(f"--network={network}: a step has a network of its own (default) or none")
    return Run(
        line=line.line,
        text=line.text,
        command=command,
        heredocs=line.heredocs,
        mounts=tuple(mount_of(text) for text in flags.get("mount", ())),
        network=network == "default",
    )


def _copy(line: LogicalLine, rest: str, escape: str) -> Instruction:
    is_add = line.text[:3].upper() == "ADD"
    known = {"chown": "", "chmod": ""}
    if is_add:
        known |= {"checksum": "", "keep-git-dir": NO_GIT}
        known |= {"unpack": "local archives always are, files from a URL never"}
    else:
        known |= {"from": "", "parents": "not supported; write the directories out"}
    known |= {"link": "not needed: a layer depends on what it copies and on its parent"}
    known |= {"exclude": "not supported; use .dockerignore"}
    flags, rest = _flags(rest, known, escape)
    spaced = raw_words(rest, escape) if line.heredocs else rest.split()
    words = list(_json_words(rest) or spaced)
    if len(words) < 2:
        raise Mistake("the form is COPY SOURCE… DESTINATION")
    checksum = flags.get("checksum", "")
    if is_add and not any("$" in word for word in (*words[:-1], checksum)):
        checksum_of(words[:-1], checksum)
    source_stage = flags.get("from", "")
    if "$" in source_stage:
        raise Mistake("--from takes no variables: name a stage with FROM $IMAGE AS NAME")
    if line.heredocs and source_stage:
        raise Mistake("a heredoc cannot come --from another stage")
    return Copy(
        line=line.line,
        text=line.text,
        sources=tuple(w for w in words[:-1] if not (line.heredocs and is_heredoc_word(w))),
        destination=words[-1],
        heredocs=line.heredocs,
        is_add=is_add,
        chown=flags.get("chown", ""),
        chmod=flags.get("chmod", ""),
        source_stage=source_stage,
        checksum=checksum,
    )


def _workdir(line: LogicalLine, rest: str, escape: str) -> Instruction:
    return Workdir(line=line.line, text=line.text, path=rest)


def _user(line: LogicalLine, rest: str, escape: str) -> Instruction:
    return User(line=line.line, text=line.text, user=rest)


def _expose(line: LogicalLine, rest: str, escape: str) -> Instruction:
    return Expose(line=line.line, text=line.text, ports=rest)


def _stop_signal(line: LogicalLine, rest: str, escape: str) -> Instruction:
    return StopSignal(line=line.line, text=line.text, signal=rest)


def _shell(line: LogicalLine, rest: str, escape: str) -> Instruction:
    words = _json_words(rest)
    if not words:
        raise Mistake('the form is SHELL ["program", "argument", …]')
    return Shell(line=line.line, text=line.text, argv=words)


def _entrypoint(line: LogicalLine, rest: str, escape: str) -> Instruction:
    return Entrypoint(line=line.line, text=line.text, command=_command(rest))


def _cmd(line: LogicalLine, rest: str, escape: str) -> Instruction:
    return Cmd(line=line.line, text=line.text, command=_command(rest))


def _healthcheck(line: LogicalLine, rest: str, escape: str) -> Instruction:
    known = dict.fromkeys(("interval", "timeout", "start-period", "retries"), "")
    known["start-interval"] = "not supported; 'interval' is short enough for the start"
    flags, rest = _flags(rest, known, escape)
    kind, text = _first_word(rest) if rest else ("", "")
    if kind.upper() == "NONE" and not text and not flags:
        return Healthcheck(line=line.line, text=line.text, command=None)
    if kind.upper() != "CMD" or not text:
        raise Mistake("the form is HEALTHCHECK [--interval=30s …] CMD COMMAND, or HEALTHCHECK NONE")
    return Healthcheck(
        line=line.line,
        text=line.text,
        command=_command(text),
        interval_seconds=_seconds(flags, "interval", 30.0),
        timeout_seconds=_seconds(flags, "timeout", 30.0),
        start_period_seconds=_seconds(flags, "start-period", 0.0),
        retries=_count(flags.get("retries", "3")),
    )


def _seconds(flags: dict[str, str], name: str, default: float) -> float:
    """Zero means the default, too (the image specification)."""
    text = flags.get(name, "0")
    if text == "0":
        return default
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
        raise Mistake(f"--{name}={text} is no duration: 30s, 1m30s, 500ms")
    return sum(float(n) * _UNITS[unit] for n, unit in _DURATION.findall(text)) or default


def _count(text: str) -> int:
    count = number_of(text)
    if not count:
        raise Mistake(f"--retries={text} is no count of at least 1")
    return count


_MAKERS: dict[str, Callable[[LogicalLine, str, str], Instruction]] = {
    "FROM": _from,
    "ARG": _arg,
    "ENV": _env,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "RUN": _run,
    "COPY": _copy,
    "ADD": _copy,
    "WORKDIR": _workdir,
    "USER": _user,
    "EXPOSE": _expose,
    "STOPSIGNAL": _stop_signal,
    "SHELL": _shell,
    "ENTRYPOINT": _entrypoint,
    "CMD": _cmd,
    "HEALTHCHECK": _healthcheck,
}
