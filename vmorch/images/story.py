"""A build as progress: which step of how many began, was cached, ended, failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vmorch.effects import Clock
from vmorch.errors import VmorchError
from vmorch.images.protocol import BuildProgress, Progress, StepState


@dataclass(slots=True)
class Chapter:
    """One step's part of the story. It ends as done unless `cached` was called or it raises."""

    text: str
    number: int
    total: int
    _progress: Progress
    is_cached: bool = False

    def say(self, line: str) -> None:
        self.tell(StepState.OUTPUT, line)

    def cached(self) -> None:
        self.is_cached = True

    @property
    def ending(self) -> StepState:
        return StepState.CACHED if self.is_cached else StepState.DONE

    def tell(self, state: StepState, text: str = "", seconds: float = 0.0) -> None:
        self._progress(
            BuildProgress(
                step=self.text,
                number=self.number,
                total=self.total,
                state=state,
                text=text,
                seconds=seconds,
            )
        )


class Story:
    """`lines` are those of the Dockerfile whose instructions count as steps, in their order."""

    def __init__(self, progress: Progress, clock: Clock, lines: list[int]) -> None:
        self.progress = progress
        self._clock = clock
        self._numbers = {line: number for number, line in enumerate(lines, start=1)}

    @contextmanager
    def chapter(self, line: int, text: str) -> Iterator[Chapter]:
        number, total = self._numbers.get(line, 0), len(self._numbers)
        chapter = Chapter(text, number, total, self.progress)
        began = self._clock.now()
        chapter.tell(StepState.STARTED)
        try:
            yield chapter
        except VmorchError as error:
            chapter.tell(StepState.FAILED, error.message, self._clock.now() - began)
            raise
        chapter.tell(chapter.ending, seconds=self._clock.now() - began)
