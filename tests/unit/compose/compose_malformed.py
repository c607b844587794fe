"""Malformed files and the lines of their problems: `name: (text, {line: part of the message})`."""

from __future__ import annotations

from itertools import pairwise

_WEB = "services:\n  web:\n    image: tiny\n"


def web(text: str) -> str:
    """A file whose service `web` has these further lines, from line 4 on."""
    return _WEB + "".join(f"    {line}\n" for line in text.splitlines())


def built(text: str) -> str:
    """A file whose service `web` has a build with these lines, from line 4 on; it declares the
    secrets `token` and `other`."""
    build = "".join(f"      {line}\n" for line in text.splitlines())
    declared = "secrets: {token: {file: good.env}, other: {file: good.env}}\n"
    return f"services:\n  web:\n    build:\n{build}{declared}"


def alias_bomb() -> str:
    names = "abcdefghij"
    lines = ["x-a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in pairwise(names):
        lines.append(f"x-{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


MALFORMED: dict[str, tuple[str, dict[int, str]]] = {
    # YAML
    "empty": ("", {1: "empty"}),
    "only comments": ("# nothing\n\n# here\n", {1: "empty"}),
    "null document": ("---\n", {1: "empty"}),
    "a list": ("- web\n", {1: "must be a mapping"}),
    "a text": ("web", {1: "must be a mapping"}),
    "tab": ("services:\n\tweb:\n", {2: "A tab"}),
    "tab after spaces": ("services:\n  web:\n  \timage: tiny\n", {3: "A tab"}),
    "open bracket": ("services:\n  web: [a\n", {3: "not YAML"}),
    "open quote": ("services:\n  web: 'a\n", {3: "not YAML"}),
    "bad indentation": ("services:\n  web:\n    image: tiny\n   user: x\n", {4: "not YAML"}),
    "two values": ("services: a: b\n", {1: "not YAML"}),
    "duplicate key": (web("user: a\nuser: b"), {5: "twice; the first is in line 4"}),
    "duplicate service": (_WEB + "  web:\n    image: x\n", {4: "'web' stands here twice"}),
    "python tag": (web("user: !!python/object/apply:os.system ['id']"), {4: "tag"}),
    "python name": (web("user: !!python/name:os.system ''"), {4: "tag"}),
    "unknown tag": (web("user: !vault abc"), {4: "'!vault'"}),
    "wrong tag": (web("scale: !!int x"), {4: "its tag"}),
    "binary": (web("user: !!binary aGk="), {4: "'!!binary'"}),
    "alias bomb": (alias_bomb(), {5: "25000 values"}),
    "alias without anchor": (web("user: *nobody"), {4: "no anchor"}),
    "alias to itself": ("x-a: &a\n  - *a\n", {2: "contains itself"}),
    "merge of a text": (web("<<: tiny"), {4: "merge key"}),
    "depth": ("x-a: " + "[" * 100, {1: "levels deep"}),
    "depth of mappings": ("".join(f"{' ' * i}a:\n" for i in range(100)), {65: "levels deep"}),
    "list as key": ("services:\n  ? [a]\n  : 1\n", {2: "A key must be text"}),
    "empty key": ("services:\n  ? \n  : {image: tiny}\n", {2: "A key is empty"}),
    "latin-1": ("services:\n  w\udce9b: {image: tiny}\n", {2: "0xe9 here is not UTF-8"}),
    "control character": ("services:\n  web: \x07\n", {2: "U+0007"}),
    "NUL": ("services: \0\n", {1: "U+0000"}),
    "escaped NUL": (web('user: "a\\0b"'), {4: "NUL"}),
    "NUL in a name": (web('environment: {"A\\0B": x}'), {4: "the name of a variable"}),
    "NUL in a list": (web('environment: ["A\\0B=x"]'), {4: "the name of a variable"}),
    "NaN": (web("cpus: .nan"), {4: "NaN"}),
    "infinity": (web("cpus: .inf"), {4: "Infinity"}),
    "huge number": (web("scale: " + "9" * 5000), {4: "a whole number"}),
    "sexagesimal stays text": (web("ports: [22:99:22]"), {4: "a port"}),
    "second document": (_WEB + "---\nservices: {web: {usr: x}}\n", {5: "'usr'"}),
    # Keys
    "unknown key": (web("enviroment: {A: b}"), {4: "Did you mean 'environment'?"}),
    "unknown top key": ("service:\n  web: {image: tiny}\n", {1: "Did you mean 'services'?"}),
    "unknown key below": (web("deploy:\n  replcas: 2"), {5: "Did you mean 'replicas'?"}),
    "two unknown keys": (web("usr: a\nimagee: b"), {4: "'user'", 5: "'image'"}),
    "privileged": (web("privileged: true"), {4: "'privileged' is refused: each instance has"}),
    "container_name": (web("container_name: x"), {4: "SERVICE-NUMBER"}),
    "network_mode": (web("network_mode: host"), {4: "refused"}),
    "cap_add": (web("cap_add: [ALL]"), {4: "refused"}),
    "devices": (web("devices: [/dev/sda]"), {4: "refused"}),
    "extends": (web("extends: {service: db}"), {4: "refused"}),
    "include": ("include: [a.yaml]\n" + _WEB, {1: "refused"}),
    "volumes": (web("volumes: [data:/x]"), {4: "no volume 'data' under"}),
    "bad volume too": (web("volumes: [/host:/x]"), {4: "NAME:PATH"}),
    "secrets": (web("secrets: [a]"), {4: "no secret 'a' under"}),
    "top secrets": (_WEB + "secrets: {a: {file: x}}\n", {4: "'x' cannot be read"}),
    "order": (web("deploy:\n  update_config: {order: start-firsd}"), {5: "'start-first'"}),
    "ratio": (web("deploy:\n  update_config: {max_failure_ratio: 1.5}"), {5: "from 0 to 1"}),
    "monitor": (web("deploy:\n  update_config: {monitor: 30d}"), {5: "a time such as"}),
    "rollback of a rollback": (
        web("deploy:\n  rollback_config: {failure_action: rollback}"),
        {5: "pause or continue"},
    ),
    "start-first with a volume": (
        web("volumes: [data:/x]\ndeploy:\n  update_config: {order: start-first}")
        + "volumes: {data: {}}\n",
        {6: "With a volume the order is stop-first"},
    ),
    "reserved CPUs above the cap": (
        web("cpus: 0.5\ndeploy:\n  resources:\n    reservations: {cpus: 0.6}"),
        {7: "The reservation of 0.6 must be from 0 to its limit, 0.5"},
    ),
    "reserved memory above the default cap": (
        web("mem_reservation: 513M"),
        {4: "The reservation of 513M must be from 0 to its limit, 512M"},
    ),
    "two reservations": (
        web("mem_reservation: 64M\ndeploy: {resources: {reservations: {memory: 65M}}}"),
        {4: "say different things"},
    ),
    "reserved devices": (
        web("deploy: {resources: {reservations: {devices: []}}}"),
        {4: "devices of the host"},
    ),
    "autoscale": (web("autoscale: {min: 1}"), {4: "'max' is missing"}),
    "share": (web("autoscale: {max: 2, cpu: 170%}"), {4: "percent"}),
    "hour": (web("autoscale: {max: 2, schedule: [{from: 8, to: 09:00, min: 1}]}"), {4: "time of"}),
    "udp": (web("ports: [53:53/udp]"), {4: "'udp' is not available"}),
    "udp in the long form": (web("ports:\n  - target: 53\n    protocol: udp"), {6: "'udp'"}),
    # Types and values
    "services as a list": ("services:\n  - web\n", {1: "Expected a mapping, found a list"}),
    "service as a text": ("services:\n  web: tiny\n", {2: "Expected a mapping, found 'tiny'"}),
    "no services": ("name: shop\n", {1: "no services"}),
    "null services": ("services:\n", {1: "no services"}),
    "no image": ("services:\n  web:\n    user: x\n", {2: "'image' or a 'build'"}),
    "null service": ("services:\n  web:\n", {2: "'image' or a 'build'"}),
    "number as image": ("services:\n  web:\n    image: 12\n", {3: "Expected the name"}),
    "image with a space": ("services:\n  web:\n    image: a b\n", {3: "Expected the name"}),
    "number in a command": (web("command: [sleep, 10]"), {4: 'Put it in quotes: "10"'}),
    "quote in a command": (web("command: echo 'a"), {4: "split into words"}),
    "command as a mapping": (web("command: {a: b}"), {4: "found a mapping"}),
    "boolean replicas": (web("scale: true"), {4: "a whole number"}),
    "negative replicas": (web("deploy:\n  replicas: -1"), {5: "a whole number"}),
    "broken replicas": (web("deploy:\n  replicas: 1.5"), {5: "the number 1.5"}),
    "too many instances": (web("scale: 181"), {1: "181 instances"}),
    "bad size": (web("mem_limit: 512X"), {4: "a size such as"}),
    "negative size": (web("mem_limit: -1"), {4: "a size such as"}),
    "small memory": (web("mem_limit: 1M"), {4: "1M is not allowed"}),
    "huge memory": (web("mem_limit: 900P"), {4: "from 32M to 4T"}),
    "no cpus": (web("deploy: {resources: {limits: {cpus: 0}}}"), {4: "0 CPUs"}),
    "cpus in words": (web("cpus: many"), {4: "a number of CPUs"}),
    "two sizes": (
        web("mem_limit: 1G\ndeploy: {resources: {limits: {memory: 2G}}}"),
        {4: "different things"},
    ),
    "two counts": (web("scale: 1\ndeploy: {replicas: 2}"), {4: "different things"}),
    "duration without a unit": (web("stop_grace_period: 10"), {4: "a time such as"}),
    "bad duration": (web("healthcheck:\n  interval: 5 minutes"), {5: "a time such as"}),
    "zero interval": (web("healthcheck:\n  interval: 0s"), {5: "0s is not allowed"}),
    "bad restart": (web("restart: sometimes"), {4: "unless-stopped"}),
    "boolean restart": (web("restart: false"), {4: "the boolean false"}),
    "bad condition": (
        web("deploy:\n  restart_policy:\n    condition: on_failure"),
        {6: "Did you mean 'on-failure'?"},
    ),
    "global mode": (web("deploy: {mode: global}"), {4: "replicated"}),
    "bad start": (web("start: warm"), {4: "Expected auto or cold or fork"}),
    "a start of later": (web("start: resume"), {4: "'resume' is not available in this version"}),
    "a start with nothing": (web("start: {}"), {4: "The key 'fork' is missing"}),
    "a fork's unknown key": (web("start: {fork: {servce: keep}}"), {4: "Did you mean 'service'?"}),
    "relative directory": (web("working_dir: srv"), {4: "an absolute path"}),
    "two users": (web("user: a:b:c"), {4: "a user such as"}),
    "variable with a space": (web("environment:\n  A B: c"), {5: "the name of a variable"}),
    "list in the environment": (web("environment:\n  A: [b]"), {5: "found a list"}),
    "number in the environment's list": (web("environment:\n  - 1"), {5: "KEY=VALUE"}),
    "absent env_file": (web("env_file: absent.env"), {4: "cannot be read"}),
    "second env_file absent": (web("env_file:\n  - good.env\n  - absent.env"), {6: "absent.env"}),
    "host-gateway": (web("extra_hosts: [a:host-gateway]"), {4: "cannot reach the host"}),
    "bad address": (web("extra_hosts:\n  a: 1.2.3.444"), {5: "no IP address"}),
    "dockerfile twice": (
        "services:\n  web:\n    build:\n      dockerfile: a\n      dockerfile_inline: FROM x\n",
        {5: "exclude each other"},
    ),
    "missing Dockerfile": (web("build: ./nowhere"), {4: "'nowhere/Dockerfile' cannot be read"}),
    "missing other Dockerfile": (
        web("build:\n  context: a\n  dockerfile: sub/D"),
        {6: "'a/sub/D' cannot be read"},
    ),
    "remote context": (web("build: https://host.example/x.git"), {4: "of this machine"}),
    "build as a list": ("services:\n  web:\n    build: [.]\n", {3: "found a list"}),
    "undeclared secret of a build": (
        built("secrets:\n  - token\n  - tokne\n  - source: tkn\n  - {source: none}"),
        {6: "no secret 'tokne' under 'secrets'. Did you mean 'token'", 7: "'tkn'", 8: "'none'"},
    ),
    "a build's secret with an owner": (
        built("secrets:\n  - source: token\n    uid: 0\n    gid: 0\n    mode: 0400\n  - absent"),
        {4: "'absent'", 6: "--mount=type=secret", 7: "'gid' is refused", 8: "'mode' is refused"},
    ),
    "a build's secret without a source": (built("secrets: [{target: a}]"), {4: "'source'"}),
    "a build's secret with a bad name": (built("secrets: [./token.txt]"), {4: "a name"}),
    "a build's secret with a bad id": (
        built("secrets:\n  - {source: token, target: 'a,b'}\n  - {source: token, target: a b}"),
        {5: "an id", 6: "an id"},
    ),
    "two secrets with one id": (
        built("secrets: [token, {source: other, target: token}]"),
        {4: "Two secrets have the id 'token'"},
    ),
    "secrets of a build as a mapping": (built("secrets: {token: }"), {4: "found a mapping"}),
    "secrets of a build without what they are": (
        "services:\n  web:\n    build:\n      secrets: [a, b, c]\n"
        "secrets:\n  a: {file: nowhere}\n  b: {environment: NOWHERE}\n  c: {content: x}\n",
        {6: "'nowhere' cannot be read", 7: "'NOWHERE' is not set", 8: "'content' is refused"},
    ),
    # Ports, routes and checks
    "port 0": (web("ports: [0]"), {4: "a port such as"}),
    "port too high": (web("ports: ['70000:80']"), {4: "a port such as"}),
    "address of no host": (web("ports: ['300.0.0.1:80:80']"), {4: "a port such as"}),
    "uneven ranges": (web("ports: ['80-82:80-81']"), {4: "different lengths"}),
    "backward range": (web("expose: ['90-80']"), {4: "ends before it begins"}),
    "long range": (web("expose: ['1-65535']"), {4: "more than 256"}),
    "no target": (web("ports:\n  - published: 80"), {5: "'target' is missing"}),
    "port mode": (web("ports:\n  - target: 80\n    mode: host"), {6: "refused"}),
    "same port twice": (web("ports: ['80:80', '80:81']"), {4: "port 80 is published by 'web'"}),
    "same port of two": (
        web("ports: ['80:80']") + "  api:\n    image: tiny\n    ports: ['0.0.0.0:80:8080']\n",
        {7: "published by 'web' already"},
    ),
    "same route of two": (
        web("expose: [80]\nroute: {host: a.b}")
        + "  api:\n    image: tiny\n    expose: [80]\n    route: {host: a.b, path: /}\n",
        {9: "leads to 'web' already"},
    ),
    "same route but for a slash": (
        web("expose: [80]\nroute: {host: a.b, path: /api}")
        + "  api:\n    image: tiny\n    expose: [80]\n    route: {host: a.b, path: /api/}\n",
        {9: "leads to 'web' already"},
    ),
    "route without a port": (web("route: {host: a.localhost}"), {4: "needs a port"}),
    "route without a host": (web("route: {path: /}"), {4: "'host' is missing"}),
    "route with a scheme": (web("route: {host: 'http://a'}"), {4: "a host name"}),
    "path of no route": (web("route: {host: a, path: api, port: 80}"), {4: "a path such as"}),
    "PROXY protocol of a version": (
        web("ports:\n  - target: 80\n    proxy_protocol: v2"),
        {6: "accept or send or both"},
    ),
    "same route by header": (
        web(
            "expose: [80]\nroute:\n"
            "  - {host: a, headers: {X-A: b}}\n  - {host: a, headers: {x-a: b}}"
        ),
        {5: "leads to 'web' already"},
    ),
    "name of no header": (
        web("expose: [80]\nroute:\n  host: a\n  headers: {'X A': b}"),
        {7: "'X A' is not the name of a header"},
    ),
    "value of no header": (
        web('expose: [80]\nroute:\n  host: a\n  headers:\n    X-A: "it\'s"'),
        {8: "without an apostrophe"},
    ),
    "header that ends a condition": (
        web('expose: [80]\nroute:\n  host: a\n  headers:\n    X-A: "}"'),
        {8: "not '}' alone"},
    ),
    "many headers": (
        web(
            "expose: [80]\nroute:\n  - host: a\n"
            "    headers: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1}"
        ),
        {7: "at most 6 headers"},
    ),
    "path with an apostrophe": (
        web('expose: [80]\nroute:\n  host: a\n  path: "/it\'s"'),
        {7: "without an apostrophe"},
    ),
    "header twice": (
        web("expose: [80]\nroute:\n  - host: a\n    headers: {X-A: b, x-a: c}"),
        {7: "A header is there twice"},
    ),
    "route that never waits": (
        web("expose: [80]\nroute:\n  - host: a\n    timeout: 1ms"),
        {7: "to 168h"},
    ),
    "body of no size": (
        web("expose: [80]\nroute:\n  host: a\n  body_limit: much"),
        {7: "a size such as"},
    ),
    "body without a bound": (
        web("expose: [80]\nroute:\n  - host: a\n    body_limit: 9223372036854775807"),
        {7: "must be from 0 to 64T"},
    ),
    "maintenance of two lines": (
        web('expose: [80]\nroute:\n  host: a\n  maintenance: "a\\nb"'),
        {7: "a line of text"},
    ),
    "check without a port": (web("healthcheck: {test: [HTTP, /]}"), {4: "needs a port"}),
    "check with a space": (
        web('healthcheck: {test: [HTTP, "/a b", 80]}'),
        {4: "a path of ASCII"},
    ),
    "check beyond ASCII": (web("healthcheck: {test: [HTTP, /ü, 80]}"), {4: "a path of ASCII"}),
    "TCP without a port": (web("healthcheck:\n  test: [TCP]"), {5: "needs a port"}),
    "unknown check": (web("healthcheck: {test: [HTTPS, /]}"), {4: "Did you mean 'HTTP'?"}),
    "check of nothing": (web("healthcheck: {test: []}"), {4: "Expected a command"}),
    "CMD of nothing": (web("healthcheck: {test: [CMD]}"), {4: "needs a command"}),
    "two shell lines": (web("healthcheck: {test: [CMD-SHELL, a, b]}"), {4: "takes 1 after it"}),
    "NONE of something": (web("healthcheck: {test: [NONE, a]}"), {4: "takes nothing after it"}),
    "no failure allowed": (web("healthcheck: {retries: 0}"), {4: "at least once"}),
    # Between services
    "unknown dependency": (
        web("depends_on: [bd]") + "  db:\n    image: tiny\n",
        {4: "Did you mean 'db'?"},
    ),
    "itself": (web("depends_on: [web]"), {4: "itself"}),
    "cycle": (
        web("depends_on: [b]")
        + "  b: {image: x, depends_on: [c]}\n  c:\n    image: x\n    depends_on:\n      - web\n",
        {4: "a circle: web → b → c → web"},
    ),
    "bad dependency": (
        web("depends_on:\n  db: {condition: healthy}") + "  db: {image: x}\n",
        {5: "Did you mean 'service_healthy'?"},
    ),
    "never healthy": (
        web("depends_on: {db: {condition: service_healthy}}")
        + "  db: {image: x, healthcheck: {disable: true}}\n",
        {4: "never becomes healthy"},
    ),
    "hidden dependency": (
        web("depends_on: [db]") + "  db: {image: x, profiles: [full]}\n",
        {4: "only with the profile full"},
    ),
    "only hidden services": (web("profiles: [full]"), {1: "need a profile: full"}),
    "63 services": (
        "services:\n" + "".join(f"  s{i}: {{image: x, scale: 1}}\n" for i in range(63)),
        {1: "63 services"},
    ),
    "path as a name": ("services:\n  ../etc: {image: x}\n", {2: "is not a name"}),
    "upper case": ("services:\n  Web: {image: x}\n", {2: "is not a name"}),
    "long name": (f"services:\n  {'a' * 41}: {{image: x}}\n", {2: "at most 40"}),
    "same host name": ("services:\n  a_b: {image: x}\n  a-b: {image: x}\n", {3: "host name 'a-b'"}),
    "name of an instance": (
        "services:\n  web: {image: x}\n  web-1: {image: x}\n",
        {3: "an instance of 'web'"},
    ),
    "localhost": ("services:\n  localhost: {image: x}\n", {2: "choose another name"}),
    "bad environment name": ("name: My Shop\n" + _WEB, {1: "a name"}),
    # Networks and cloud-init
    "second network": (_WEB + "networks:\n  front:\n", {5: "'default', the one network"}),
    "service on another": (web("networks: [front]"), {4: "default"}),
    "network driver": (_WEB + "networks:\n  default:\n    driver: bridge\n", {6: "refused"}),
    "wide subnet": (
        _WEB + "networks:\n  default:\n    ipam:\n      config:\n        - subnet: 10.0.0.0/8\n",
        {8: "such as 10.1.2.0/24"},
    ),
    "aliases": (web("networks:\n  default:\n    aliases: [a]"), {6: "refused"}),
    "no header": (web("cloud_init: |\n  packages: [x]"), {4: "user data that begins with"}),
    "absent user data": (web("cloud_init: {file: absent}"), {4: "cannot be read"}),
    "file and more": (web("cloud_init:\n  file: a\n  packages: []"), {5: "stands alone"}),
    "cloud_init list": (web("cloud_init: [a]"), {4: "found a list"}),
    # Variables
    "required variable": (web("user: ${NOBODY:?say who}"), {4: "must be set: say who"}),
    "required, empty": (web("user: ${EMPTY:?}"), {4: "'EMPTY' must be set."}),
    "open brace": (web("user: ${USER"), {4: "no closing brace"}),
    "lone dollar": (web("command: echo $5"), {4: "$$ for a dollar"}),
    "bad name": (web("user: ${1A}"), {4: "is no variable"}),
    "bad operator": (web("user: ${USER!x}"), {4: "is no variable"}),
    "no number in a variable": (web("scale: ${USER}"), {4: "a whole number, found 'me'"}),
}
