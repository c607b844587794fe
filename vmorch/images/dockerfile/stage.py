"""Follows one stage: keeps ENV, ARG, WORKDIR … and resolves each instruction into a step.

Pure. `vmorch.images.builder` gives the base's run configuration and carries the steps out.
"""

from __future__ import annotations

import posixpath
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vmorch.images.dockerfile.instructions import (
    Arg,
    Cmd,
    Command,
    Copy,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Run,
    Shell,
    StopSignal,
    User,
    Workdir,
)
from vmorch.images.dockerfile.lines import Heredoc
from vmorch.images.dockerfile.words import BadWord, Substitution
from vmorch.model.image import RunConfig
from vmorch.model.spec import HealthCheck, HealthKind

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Given with --build-arg these reach RUN without an ARG, and never a key (Docker's reference).
PROXY_ARGS = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """A command with nothing left to substitute. `scripts` are heredoc bodies that the step
    finds as files under the directory that the worker gives ({} stands for it in `argv`)."""

    line: int
    text: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    proxies: dict[str, str]
    user: str
    working_dir: str
    script: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStep:
    """Files from the context, or from `source_stage`, to an absolute `destination`.
    `into_directory`: the destination was written with a final slash (or as `.`)."""

    line: int
    text: str
    sources: tuple[str, ...]
    documents: tuple[Heredoc, ...]
    destination: str
    into_directory: bool
    is_add: bool
    chown: str
    chmod: int | None
    source_stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryStep:
    """WORKDIR: the directory is made if it is not there."""

    line: int
    text: str
    path: str


Step = RunStep | CopyStep | DirectoryStep


def global_variables(
    dockerfile: Dockerfile, build_args: Mapping[str, str], platform: Mapping[str, str]
) -> dict[str, str]:
    """The ARGs before the first FROM, each seeing those above it.

    Raises:
        BadWord: a default cannot be substituted.
    """
    values = dict(platform)
    for arg in dockerfile.global_args:
        for name, default in arg.values:
            if name in build_args:
                values[name] = build_args[name]
            elif default is not None:
                values[name] = Substitution(values, dockerfile.escape).word(default)
    return values


class StageState:
    """The run configuration and arguments at a place in a stage."""

    def __init__(
        self,
        base: RunConfig,
        *,
        global_args: Mapping[str, str],
        build_args: Mapping[str, str],
        escape: str = "\\",
    ) -> None:
        self.run = base
        self.args: dict[str, str] = {}
        self._global_args = global_args
        self._build_args = build_args
        self._escape = escape
        self._command_is_ours = False

    def apply(self, instruction: Instruction) -> Step | None:
        """The step that changes files, or None when only the configuration changed.

        Raises:
            BadWord: a value is wrong or cannot be substituted.
        """
        match instruction:
            case Run():
                return self._run(instruction)
            case Copy():
                return self._copy(instruction)
            case Workdir():
                return self._workdir(instruction)
            case Arg():
                self._arg(instruction)
            case Env():
                word = self._substitution().word
                added = {name: word(value) for name, value in instruction.values}
                self.run = replace(self.run, environment={**self.run.environment, **added})
            case Label():
                word = self._substitution().word
                labels = {word(name): word(value) for name, value in instruction.values}
                self.run = replace(self.run, labels={**self.run.labels, **labels})
            case User():
                self.run = replace(self.run, user=_user(self._word(instruction.user)))
            case Expose():
                ports = self._substitution().words(instruction.ports)
                numbers = [port for text in ports for port in _ports(text)]
                every = dict.fromkeys([*self.run.exposed_ports, *numbers])
                self.run = replace(self.run, exposed_ports=tuple(every))
            case StopSignal():
                name = _signal(self._word(instruction.signal))
                self.run = replace(self.run, stop_signal=name)
            case Shell():
                self.run = replace(self.run, shell=instruction.argv)
            case Entrypoint():
                self._entrypoint(instruction)
            case Cmd():
                self.run = replace(self.run, command=self._argv(instruction.command))
                self._command_is_ours = True
            case Healthcheck():
                self.run = replace(self.run, healthcheck=self._health(instruction))
        return None

    def _substitution(self) -> Substitution:
        return Substitution({**self.args, **self.run.environment}, self._escape)

    def _word(self, text: str) -> str:
        return self._substitution().word(text)

    def _argv(self, command: Command) -> tuple[str, ...]:
        return (*self.run.shell, *command.words) if command.is_shell else command.words

    def _arg(self, instruction: Arg) -> None:
        for name, default in instruction.values:
            if name in self._build_args:
                self.args[name] = self._build_args[name]
            elif default is not None:
                self.args[name] = self._word(default)
            elif name in self._global_args:
                self.args[name] = self._global_args[name]

    def _entrypoint(self, instruction: Entrypoint) -> None:
        """A new ENTRYPOINT makes the base's CMD meaningless; one of this stage stays."""
        command = self.run.command if self._command_is_ours else ()
        argv = self._argv(instruction.command)
        self.run = replace(self.run, entrypoint=argv, command=command)

    def _health(self, instruction: Healthcheck) -> HealthCheck:
        if instruction.command is None:
            return HealthCheck(kind=HealthKind.NONE)
        is_shell = instruction.command.is_shell
        return HealthCheck(
            kind=HealthKind.CMD_SHELL if is_shell else HealthKind.CMD,
            argument=instruction.command.words,
            interval_seconds=instruction.interval_seconds,
            timeout_seconds=instruction.timeout_seconds,
            retries=instruction.retries,
            start_period_seconds=instruction.start_period_seconds,
        )

    def _workdir(self, instruction: Workdir) -> Step:
        path = self._absolute(self._word(instruction.path))
        self.run = replace(self.run, working_dir=path)
        return DirectoryStep(line=instruction.line, text=instruction.text, path=path)

    def _absolute(self, path: str) -> str:
        return _normal(posixpath.join("/", self.run.working_dir, path))

    def _run(self, instruction: Run) -> Step:
        argv, script = self._argv(instruction.command), ""
        heredocs = instruction.heredocs
        if instruction.command.is_shell and heredocs:
            line = instruction.command.words[0]
            if len(heredocs) == 1 and len(line.split()) == 1:
                # The document is the whole command: a script when it names its interpreter.
                body = heredocs[0].body
                is_script = body.startswith("#!")
                argv = () if is_script else (*self.run.shell, body)
                script = body if is_script else ""
            else:
                bodies = "".join(f"{doc.body}{doc.name}\n" for doc in heredocs)
                argv = (*self.run.shell, f"{line}\n{bodies}")
        environment = {"PATH": DEFAULT_PATH, **self.args, **self.run.environment}
        return RunStep(
            line=instruction.line,
            text=instruction.text,
            argv=argv,
            environment=environment,
            proxies={k: v for k, v in self._build_args.items() if k in PROXY_ARGS},
            user=self.run.user,
            working_dir=self.run.working_dir,
            script=script,
        )

    def _copy(self, instruction: Copy) -> Step:
        substitution = self._substitution()
        word = substitution.word
        written = word(instruction.destination)
        into = written.endswith("/") or posixpath.basename(written) in {"", ".", ".."}
        documents = tuple(
            replace(doc, body=substitution.literal(doc.body)) if doc.expand else doc
            for doc in instruction.heredocs
        )
        sources = tuple(_normal("/" + word(source)).lstrip("/") for source in instruction.sources)
        if len(sources) + len(documents) > 1 and not into:
            raise BadWord(f"several sources need a directory: end '{written}' with '/'")
        return CopyStep(
            line=instruction.line,
            text=instruction.text,
            sources=sources,
            documents=documents,
            destination=self._absolute(written),
            into_directory=into,
            is_add=instruction.is_add,
            chown=_owner(word(instruction.chown)),
            chmod=_mode(word(instruction.chmod)),
            source_stage=instruction.source_stage,
        )


def _normal(path: str) -> str:
    """Without `.`, `..` and double slashes. (normpath keeps two leading ones.)"""
    return "/" + posixpath.normpath(path).lstrip("/")


def _user(text: str) -> str:
    if not text or text.count(":") > 1 or text.startswith(":") or " " in text:
        raise BadWord(f"'{text}' is no user: NAME, UID, or either with ':GROUP'")
    return text


def _owner(text: str) -> str:
    if text and (text.count(":") > 1 or " " in text):
        raise BadWord(f"--chown={text}: the form is USER[:GROUP]")
    return text


def _mode(text: str) -> int | None:
    if not text:
        return None
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise BadWord(f"--chmod={text} is no octal mode such as 755")
    return mode


def _ports(text: str) -> list[int]:
    numbers, _, protocol = text.partition("/")
    if protocol.lower() not in {"", "tcp"}:
        raise BadWord(f"'{text}': only TCP ports can be exposed; UDP is reached at the instance")
    first, dash, last = numbers.partition("-")
    ends = [first, last] if dash else [first]
    if not all(end.isdigit() and 0 < int(end) < 65536 for end in ends):
        raise BadWord(f"'{text}' is no port: 1 to 65535, or a range of them")
    if int(ends[0]) > int(ends[-1]):
        raise BadWord(f"'{text}' is a range that ends before it begins")
    return list(range(int(ends[0]), int(ends[-1]) + 1))


def _signal(text: str) -> str:
    if text.isdigit() and 0 < int(text) <= 64:
        return text
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    if name in signal.Signals.__members__ or name.startswith("SIGRTM"):
        return name
    raise BadWord(f"'{text}' is no signal")
