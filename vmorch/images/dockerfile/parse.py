"""A Dockerfile's text -> stages of instructions. Collects every mistake before it raises."""

from __future__ import annotations

from vmorch.errors import InvalidSpec, SpecProblem
from vmorch.images.dockerfile.instructions import Arg, Copy, Dockerfile, From, Instruction, Stage
from vmorch.images.dockerfile.lines import MalformedLine, split_lines
from vmorch.images.dockerfile.makers import instruction_of
from vmorch.images.dockerfile.mistakes import Mistake
from vmorch.images.dockerfile.words import BadWord


def parse(text: str, file: str) -> Dockerfile:
    """Read a Dockerfile. `file` is what messages call it.

    Raises:
        InvalidSpec: with every mistake, each with its line.
    """
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
    """`COPY --from` must name an earlier stage or an image, never this or a later stage."""
    problems = []
    for stage in dockerfile.stages:
        for copy in (i for i in stage.instructions if isinstance(i, Copy) and i.source_stage):
            reference = copy.source_stage
            source = dockerfile.stage(reference)
            message = ""
            if source is None and reference.isdigit():
                message = f"there is no stage {reference}"
            elif source is not None and source.index == stage.index:
                message = f"--from={reference} is the stage itself"
            elif source is not None and source.index > stage.index:
                message = f"the stage '{reference}' comes later; stages read from earlier ones"
            if message:
                problems.append(SpecProblem(dockerfile.file, copy.line, 1, "COPY", message))
    return problems
