"""How the tests load files: with a few variables and files of their own."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from vmorch.errors import InvalidSpec, SpecProblem
from vmorch.model.compose import SourceFile, load
from vmorch.model.spec import EnvironmentSpec, ServiceSpec

VARIABLES = {"USER": "me", "EMPTY": "", "PORT": "8080", "TAG": "12"}
FILES = {
    "Dockerfile": "FROM tiny\n",
    "a/Dockerfile": "FROM tiny\n",
    "b/Dockerfile": "FROM tiny\n",
    "orders/Dockerfile": "FROM tiny\n",
    "db/Dockerfile": "FROM tiny\n",
    "../x/D": "FROM tiny\n",
    "good.env": "# comment\nA=from file\nB='x # y'\n",
    "other.env": "A=other\nUSER\n",
    "raw.env": "A='$USER'\n",
    "bad.env": "A=1\n%%%\n",
    "user-data": "#cloud-config\nruncmd: [echo $HOME]\n",
    "no-header": "packages: [a]\n",
}


def load_texts(
    *texts: str, profiles: Collection[str] = (), project_name: str | None = None
) -> EnvironmentSpec:
    sources = [SourceFile(f"{i}.yaml", text) for i, text in enumerate(texts)]
    return load(
        sources,
        variables=VARIABLES,
        read=FILES.get,
        project_name=project_name,
        profiles=profiles,
        default_name="dir",
    )


def service(*texts: str, name: str = "web") -> ServiceSpec:
    return load_texts(*texts).services[name]


def problems(*texts: str) -> list[SpecProblem]:
    with pytest.raises(InvalidSpec) as caught:
        load_texts(*texts)
    return caught.value.problems
