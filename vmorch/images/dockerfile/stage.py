"""Follows one stage: keeps ENV, ARG, WORKDIR … and resolves each instruction into a step.

Pure. `vmorch.images.builder` gives the base's run configuration and carries the steps out.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import replace

from vmorch.errors import InvalidSpec, SpecProblem
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
from vmorch.images.dockerfile.mounts import Mount
from vmorch.images.dockerfile.steps import CopyStep, DirectoryStep, MountStep, RunStep, Step
from vmorch.images.dockerfile.values import (
    check_pattern,
    checksum_of,
    id_of,
    mode_of,
    normal_path,
    number_of,
    owner_of,
    ports_of,
    signal_of,
    size_of,
    user_of,
)
from vmorch.images.dockerfile.words import BadWord, Substitution
from vmorch.model.image import RunConfig
from vmorch.model.spec import HealthCheck, HealthKind

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

EPOCH = "SOURCE_DATE_EPOCH"

# Given with --build-arg these reach RUN without an ARG, and never a key (Docker's reference).
PROXY_ARGS = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)


def global_variables(
    dockerfile: Dockerfile, build_args: Mapping[str, str], platform: Mapping[str, str]
) -> dict[str, str]:
    """The ARGs before the first FROM, each seeing those above it.

    Raises:
        InvalidSpec: a default cannot be substituted.
    """
    values = dict(platform)
    for arg in dockerfile.global_args:
        for name, default in arg.values:
            if name in build_args:
                values[name] = build_args[name]
            elif default is not None:
                substitution = Substitution(values, dockerfile.escape)
                values[name] = _said(dockerfile, arg, substitution, default)
    return values


def with_bases(dockerfile: Dockerfile, variables: Mapping[str, str]) -> Dockerfile:
    """With the variables in every FROM substituted: `FROM $BASE` may name a stage.

    Raises:
        InvalidSpec: one cannot be.
    """
    substitution = Substitution(variables, dockerfile.escape)
    stages = []
    for stage in dockerfile.stages:
        image = _said(dockerfile, stage.base, substitution, stage.base.image)
        stages.append(replace(stage, base=replace(stage.base, image=image)))
    return replace(dockerfile, stages=tuple(stages))


def _said(
    dockerfile: Dockerfile, instruction: Instruction, substitution: Substitution, text: str
) -> str:
    try:
        return substitution.word(text)
    except BadWord as error:
        keyword = instruction.text.split(maxsplit=1)[0].upper()
        place = SpecProblem(dockerfile.file, instruction.line, 1, keyword, str(error))
        raise InvalidSpec([place]) from error


class StageState:
    """The run configuration and arguments at a place in a stage. `args` are those of the stage
    that it stands on."""

    def __init__(
        self,
        base: RunConfig,
        *,
        global_args: Mapping[str, str],
        build_args: Mapping[str, str],
        escape: str = "\\",
        args: Mapping[str, str] | None = None,
    ) -> None:
        self.run = base
        self.args: dict[str, str] = dict(args or {})
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
                added = {word(name): word(value) for name, value in instruction.values}
                if "" in added:
                    raise BadWord("a variable has no name")
                self.run = replace(self.run, environment={**self.run.environment, **added})
            case Label():
                word = self._substitution().word
                labels = {word(name): word(value) for name, value in instruction.values}
                self.run = replace(self.run, labels={**self.run.labels, **labels})
            case User():
                self.run = replace(self.run, user=user_of(self._word(instruction.user)))
            case Expose():
                ports = self._substitution().words(instruction.ports)
                numbers = [port for text in ports for port in ports_of(text)]
                every = dict.fromkeys([*self.run.exposed_ports, *numbers])
                self.run = replace(self.run, exposed_ports=tuple(every))
            case StopSignal():
                name = signal_of(self._word(instruction.signal))
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
        word = self._substitution().word  # as it was before this instruction
        for name, default in instruction.values:
            if name in self._build_args:
                self.args[name] = self._build_args[name]
            elif default is not None:
                self.args[name] = word(default)
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
        # The guest's shell form is for /bin/sh; another SHELL becomes words.
        is_plain = instruction.command.is_shell and self.run.shell == RunConfig().shell
        command = instruction.command
        return HealthCheck(
            kind=HealthKind.CMD_SHELL if is_plain else HealthKind.CMD,
            argument=command.words if is_plain else self._argv(command),
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
        return normal_path(posixpath.join("/", self.run.working_dir, path))

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
        epoch = {} if self._epoch() is None else {EPOCH: self._build_args[EPOCH]}
        environment = {"PATH": DEFAULT_PATH, **epoch, **self.args, **self.run.environment}
        return RunStep(
            line=instruction.line,
            text=instruction.text,
            argv=argv,
            environment=environment,
            proxies=self._proxies(),
            user=self.run.user,
            working_dir=self.run.working_dir,
            script=script,
            mounts=tuple(self._mount(mount) for mount in instruction.mounts),
            network=instruction.network,
        )

    def _mount(self, mount: Mount) -> MountStep:
        options = {name: self._word(value) for name, value in mount.options.items()}
        target = self._word(mount.target)
        source = normal_path("/" + self._word(mount.source)).lstrip("/")
        if target and (target := self._absolute(target)) == "/":
            raise BadWord("--mount: nothing can be mounted over the root itself")
        name = options.get("id", posixpath.basename(target) if mount.kind == "secret" else target)
        if mount.kind == "secret" and not target and "env" not in options:
            target = f"/run/secrets/{name}"
        default_mode = "0400" if mount.kind == "secret" else "0755"
        return MountStep(
            kind=mount.kind,
            target=target,
            source=source,
            source_stage=mount.source_stage,
            name=name,
            writable=mount.writable,
            required=options.get("required", "").lower() in {"true", "1"},
            sharing=options.get("sharing", "shared"),
            env=options.get("env", ""),
            mode=mode_of(options.get("mode", default_mode), what="--mount: mode") or 0,
            uid=id_of(options.get("uid", "0"), "uid"),
            gid=id_of(options.get("gid", "0"), "gid"),
            size_bytes=size_of(options["size"]) if "size" in options else 0,
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
        named = [word(source) for source in instruction.sources]
        checksum = ""
        if instruction.is_add:
            checksum = checksum_of(
                [*named, *(doc.name for doc in documents)], word(instruction.checksum)
            )
        url, local = (named[0], []) if checksum else ("", named)
        sources = tuple(normal_path("/" + source).lstrip("/") for source in local)
        for source in sources:
            check_pattern(source)
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
            chown=owner_of(word(instruction.chown)),
            chmod=mode_of(word(instruction.chmod)),
            source_stage=instruction.source_stage,
            url=url,
            checksum=checksum,
            proxies=self._proxies(),
            epoch=self._epoch(),
        )

    def _epoch(self) -> int | None:
        """https://reproducible-builds.org/specs/source-date-epoch; as with Docker it needs no
        ARG."""
        text = self._build_args.get(EPOCH)
        if text is None:
            return None
        number = number_of(text)
        if number is None:
            raise BadWord(f"{EPOCH}={text} is no number of seconds")
        return number

    def _proxies(self) -> dict[str, str]:
        return {k: v for k, v in self._build_args.items() if k in PROXY_ARGS}
