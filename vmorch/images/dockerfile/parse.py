"""A Dockerfile's text -> stages of instructions. Collects every mistake before it raises."""

from __future__ import annotations

from vmorch.errors import InvalidSpec, SpecProblem
from vmorch.images.dockerfile.instructions import (
    Arg,
    Copy,
    Dockerfile,
    From,
    Instruction,
    Run,
    Stage,
)
from vmorch.images.dockerfile.lines import MalformedLine, split_lines
from vmorch.images.dockerfile.makers import instruction_of
from vmorch.images.dockerfile.mistakes import Mistake
from vmorch.images.dockerfile.values import number_of
from vmorch.images.dockerfile.words import BadWord


def parse(text: str, file: str) -> Dockerfile:
    """Read a Dockerfile. `file` is what messages call it.

    Raises:
        InvalidSpec: with every mistake, each with its line.
    """
    if "\0" in text:
        number = text.count("\n", 0, text.index("\0")) + 1
        raise InvalidSpec([SpecProblem(file, number, 1, "", "a zero byte: this is no text")])
    try:
        lines, escape = split_lines(text)
    except MalformedLine as error:
        problem = SpecProblem(file, error.line, 1, "", error.message)
        raise InvalidSpec([problem]) from error
    problems: list[SpecProblem] = []
    instructions: list[Instruction] = []
    for line in lines:
        keyword = line.text.split(maxsplit=1)[0].upper()
        try:
            instructions.append(instruction_of(line, escape))
        except (Mistake, BadWord) as error:
            problems.append(SpecProblem(file, line.line, 1, keyword, str(error)))
    known_broken = bool(problems)
    global_args, stages = _stages(instructions, file, problems, quiet=known_broken)
    dockerfile = Dockerfile(file, escape, tuple(global_args), tuple(stages))
    problems.extend(_reference_problems(dockerfile))
    if problems:
        raise InvalidSpec(
            sorted(problems, key=lambda problem: problem.line),
            hint=f"Correct {file} and build again.",
        )
    return dockerfile


def _stages(
    instructions: list[Instruction], file: str, problems: list[SpecProblem], *, quiet: bool
) -> tuple[list[Arg], list[Stage]]:
    global_args: list[Arg] = []
    stages: list[Stage] = []
    for instruction in instructions:
        if isinstance(instruction, From):
            stages.append(Stage(len(stages), instruction, ()))
        elif stages:
            last = stages[-1]
            stages[-1] = Stage(last.index, last.base, (*last.instructions, instruction))
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
        elif not quiet:
            message = "only ARG may stand before the first FROM"
            problems.append(SpecProblem(file, instruction.line, 1, "", message))
    if not stages and not quiet:
        problems.append(SpecProblem(file, 1, 1, "", "there is no FROM: an image needs a base"))
    return global_args, stages


def _reference_problems(dockerfile: Dockerfile) -> list[SpecProblem]:
    """What is read --from must be an earlier stage or an image, never this or a later stage."""
    problems = []
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            for reference in references(instruction):
                if message := _reference_problem(dockerfile, stage, reference):
                    keyword = "COPY" if isinstance(instruction, Copy) else "RUN"
                    place = SpecProblem(dockerfile.file, instruction.line, 1, keyword, message)
                    problems.append(place)
    return problems


def references(instruction: Instruction) -> list[str]:
    """The stages and images whose files an instruction reads."""
    if isinstance(instruction, Copy):
        found = [instruction.source_stage]
    elif isinstance(instruction, Run):
        found = [mount.source_stage for mount in instruction.mounts]
    else:
        found = []
    return [reference for reference in found if reference]


def _reference_problem(dockerfile: Dockerfile, stage: Stage, reference: str) -> str:
    source = dockerfile.stage(reference)
    if source is None:
        return f"there is no stage {reference}" if number_of(reference) is not None else ""
    if source.index == stage.index:
        return f"--from={reference} is the stage itself"
    if source.index > stage.index:
        return f"the stage '{reference}' comes later; stages read from earlier ones"
    return ""
