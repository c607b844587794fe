"""Files that are right, and what they resolve to."""

from __future__ import annotations

import pytest
from compose_loading import FILES, load_texts, service
from compose_valid import VALID, valid_file

from vmorch.errors import InvalidSpec
from vmorch.model import codec
from vmorch.model.compose import SourceFile, load, render
from vmorch.model.spec import EnvironmentSpec, NetworkSpec, ServiceSpec

WEB = "services: {web: {image: tiny}}\n"


@pytest.mark.parametrize("name", VALID)
def test_a_service_resolves_to(name: str) -> None:
    lines, expected = VALID[name]
    assert service(valid_file(lines)) == ServiceSpec(
        **({"name": "web", "image": "tiny"} | expected)
    )


@pytest.mark.parametrize("name", VALID)
def test_the_rendered_file_and_the_json_lead_to_the_same(name: str) -> None:
    spec = load_texts(valid_file(VALID[name][0]))
    again = load(
        [SourceFile("rendered", render(spec))],
        variables={},
        read=FILES.get,
        default_name="other",
    )
    assert again == spec
    assert codec.from_json(codec.to_json(spec)) == spec


def test_the_table_is_as_long_as_promised() -> None:
    assert len(VALID) >= 30


def test_a_service_that_is_only_built_gets_a_name_from_its_environment() -> None:
    assert service("name: shop\nservices: {web: {build: .}}").image == "shop-web"


def test_the_name_is_that_of_the_command_line_then_the_file_then_the_directory() -> None:
    assert load_texts(WEB).name == "dir"
    assert load_texts("name: shop\n" + WEB).name == "shop"
    assert load_texts("name: shop\n" + WEB, "name: other\n" + WEB).name == "other"
    assert load_texts("name: shop\n" + WEB, project_name="p").name == "p"
    assert load_texts("name: shop-${TAG}\n" + WEB).name == "shop-12"


def test_the_name_is_a_variable_as_in_compose() -> None:
    text = "name: shop\nservices: {web: {image: '${COMPOSE_PROJECT_NAME}-base'}}"
    assert service(text).image == "shop-base"


def test_a_bad_name_is_refused_wherever_it_comes_from() -> None:
    with pytest.raises(InvalidSpec):
        load_texts(WEB, project_name="No Name")


def test_the_network() -> None:
    text = WEB + (
        "networks:\n  default:\n    internal: true\n"
        "    ipam: {config: [{subnet: 10.9.8.0/24}]}\n    x-note: mine\n"
    )
    spec = load_texts(text)
    assert spec.network == NetworkSpec(subnet="10.9.8.0/24", internal=True)
    assert load_texts(render(spec)) == spec
    assert load_texts(WEB + "networks: {default: }").network == NetworkSpec()


def test_profiles_choose_services() -> None:
    text = (
        "services: {a: {image: x}, b: {image: x, profiles: [p, q]}, c: {image: x, profiles: [r]}}"
    )
    assert list(load_texts(text).services) == ["a"]
    assert list(load_texts(text, profiles=["q"]).services) == ["a", "b"]
    assert list(load_texts(text, profiles=["*"]).services) == ["a", "b", "c"]


def test_a_service_that_no_profile_asks_for_is_still_checked() -> None:
    with pytest.raises(InvalidSpec):
        load_texts("services: {a: {image: x}, b: {image: x, profiles: [p], usr: x}}")


def test_files_of_a_service_that_no_profile_asks_for_are_not_needed() -> None:
    text = "services: {a: {image: x}, b: {build: nowhere, env_file: absent, profiles: [p]}}"
    assert list(load_texts(text).services) == ["a"]
    with pytest.raises(InvalidSpec):
        load_texts(text, profiles=["p"])


def test_extensions_may_stand_wherever_keys_are_declared() -> None:
    text = (
        "x-a: 1\nversion: '3.8'\nservices:\n  web:\n    image: tiny\n    x-b: 1\n"
        "    healthcheck: {x-c: 1}\n    deploy: {x-d: 1, resources: {x-e: 1, limits: {x-f: 1}}}\n"
        "    networks: {default: {x-i: 1}}\n"
    )
    assert load_texts(text) == load_texts(WEB)


def test_values_that_wrap_lines_and_mean_something_to_yaml_survive_rendering() -> None:
    odd = {
        "A": "a: b # c\n  d\n\n",
        "B": "$HOME ${X}",
        "C": "no",
        "D": "1e3",
        "E": " x ",
        "F": "\ttab\u2028é",
        "G": "x" * 300,
        "H": "a\r\nb",
        "I": "\x1b[0m",
    }
    spec = EnvironmentSpec(
        name="e", services={"s": ServiceSpec(name="s", image="x", environment=odd)}
    )
    assert load_texts(render(spec)) == spec


def test_the_environment_of_users_data_may_be_longer_than_a_file() -> None:
    data = "#cloud-config\n" + "# x\n" * 100_000
    services = {n: ServiceSpec(name=n, image="x", cloud_init=data) for n in ("a", "b", "c", "d")}
    spec = EnvironmentSpec(name="e", services=services)
    assert codec.from_json(codec.to_json(spec)) == spec


def test_warnings_name_the_variables_that_are_not_set() -> None:
    heard: list[str] = []
    load(
        [SourceFile("f", "services: {web: {image: 'a$NOBODY', user: 'u${NOBODY}${X:-1}$Y'}}")],
        variables={},
        read=FILES.get,
        default_name="d",
        warn=heard.append,
    )
    assert [text.split("'")[1] for text in heard] == ["NOBODY", "Y"]


def test_a_reservation_makes_no_new_revision() -> None:
    plain = load_texts(WEB).services["web"]
    reserving = load_texts("services: {web: {image: tiny, mem_reservation: 64M}}").services["web"]
    assert reserving.reserved_memory_bytes == 64 * 1024**2
    assert reserving.revision_digest() == plain.revision_digest()
