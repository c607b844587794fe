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
from vmorch.images.dockerfile.words import raw_words

_REFUSED = {
    "ONBUILD": "instructions for later builds are not supported; write them where they apply",
    "VOLUME": "a virtual machine's disk outlives its service, so there are no anonymous volumes; "
    "declare 'volumes:' in the vmorch file",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*\Z")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|s|m|h)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_NO_GIT = "git sources are not supported; clone in a RUN step"
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def instruction_of(line: LogicalLine, escape: str) -> Instruction:
    """Raises Mistake or BadWord."""
    keyword, _, rest = line.text.partition(" ")
    if "\t" in keyword:
        keyword, _, rest = line.text.partition("\t")
    keyword, rest = keyword.upper(), rest.strip()
    if keyword in _REFUSED:
        raise Mistake(_REFUSED[keyword])
    make = _MAKERS.get(keyword)
    if make is None:
        known = did_you_mean(keyword, [*_MAKERS, *_REFUSED])
        raise Mistake(f"unknown instruction '{keyword}'{known}")
    if not rest:
        raise Mistake("nothing follows the instruction")
    return make(line, rest, escape)


def _flags(rest: str, known: dict[str, str]) -> tuple[dict[str, str], str]:
    """Leading `--name=value` words. `known` maps a flag to "" or to why it is refused."""
    found, rest = _repeated_flags(rest, known)
    for name, values in found.items():
        if len(values) > 1:
            raise Mistake(f"--{name} appears twice")
    return {name: values[0] for name, values in found.items()}, rest


def _repeated_flags(rest: str, known: dict[str, str]) -> tuple[dict[str, list[str]], str]:
    found: dict[str, list[str]] = {}
    while rest.startswith("--"):
        word, _, after = rest.partition(" ")
        name, has_value, value = word[2:].partition("=")
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
    """The words of a JSON array of strings; None when the text is not one, as Docker decides."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        return None
    return tuple(value)


def _command(text: str) -> Command:
    words = _json_words(text)
    return Command((text,), is_shell=True) if words is None else Command(words, is_shell=False)


def _pairs(rest: str, escape: str) -> tuple[tuple[str, str], ...]:
    """`a=1 b="2 3"`, or the old form `a the rest`. Values keep quotes for the substitution."""
    words = raw_words(rest, escape)
    if "=" not in words[0]:
        name, _, value = rest.partition(" ")
        if not value.strip():
            raise Mistake(f"'{name}' has no value: write {name}=VALUE")
        return ((name, value.strip()),)
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
    flags, rest = _flags(rest, {"platform": ""})
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
    flags, rest = _repeated_flags(rest, {"mount": "", "network": "", "security": sandbox})
    if not rest:
        raise Mistake("nothing follows the flags")
    network = flags.get("network", ["default"])[-1]
    if network not in {"default", "none"}:
        raise Mistake(f"--network={network}: a step has a network of its own (default) or none")
    return Run(
        line=line.line,
        text=line.text,
        command=_command(rest),
        heredocs=line.heredocs,
        mounts=tuple(mount_of(text) for text in flags.get("mount", ())),
        network=network == "default",
    )


def _copy(line: LogicalLine, rest: str, escape: str) -> Instruction:
    is_add = line.text[:3].upper() == "ADD"
    known = {"chown": "", "chmod": ""}
    if is_add:
        known |= {"checksum": "", "keep-git-dir": _NO_GIT}
        known |= {"unpack": "local archives always are, files from a URL never"}
    else:
        known |= {"from": "", "parents": "not supported; write the directories out"}
    known |= {"link": "not needed: a layer depends on what it copies and on its parent"}
    known |= {"exclude": "not supported; use .dockerignore"}
    flags, rest = _flags(rest, known)
    words = list(_json_words(rest) or rest.split())
    if len(words) < 2:
        raise Mistake("the form is COPY SOURCE… DESTINATION")
    checksum = _checksum(words[:-1], flags.get("checksum", "")) if is_add else ""
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


def _checksum(sources: list[str], checksum: str) -> str:
    """That of the source that is a URL; "" when there is none."""
    if any(re.match(r"(git|ssh)://|git@", source) for source in sources):
        raise Mistake(_NO_GIT)
    remote = [source for source in sources if is_url(source)]
    if not remote:
        if checksum:
            raise Mistake("--checksum is for a URL; files of the context have their own digests")
        return ""
    if not checksum:
        raise Mistake(
            f"'{remote[0]}' needs --checksum=sha256:…: otherwise nobody knows what it will be"
        )
    if len(sources) > 1:
        raise Mistake("--checksum goes with a single source")
    if not _DIGEST.match(checksum):
        raise Mistake(f"--checksum={checksum}: the form is sha256:<64 hexadecimal digits>")
    return checksum


def is_url(source: str) -> bool:
    return re.match(r"https?://", source) is not None


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
    flags, rest = _flags(rest, known)
    kind, _, text = rest.partition(" ")
    if kind.upper() == "NONE" and not text and not flags:
        return Healthcheck(line=line.line, text=line.text, command=None)
    if kind.upper() != "CMD" or not text.strip():
        raise Mistake("the form is HEALTHCHECK [--interval=30s …] CMD COMMAND, or HEALTHCHECK NONE")
    return Healthcheck(
        line=line.line,
        text=line.text,
        command=_command(text.strip()),
        interval_seconds=_seconds(flags, "interval", 30.0),
        timeout_seconds=_seconds(flags, "timeout", 30.0),
        start_period_seconds=_seconds(flags, "start-period", 0.0),
        retries=_count(flags.get("retries", "3")),
    )


def _seconds(flags: dict[str, str], name: str, default: float) -> float:
    text = flags.get(name)
    if text is None:
        return default
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
        raise Mistake(f"--{name}={text} is no duration: 30s, 1m30s, 500ms")
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise Mistake(f"--retries={text} is no count of at least 1")
    return int(text)


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
