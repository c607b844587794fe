"""What `vmorch help TOPIC` explains: each a few lines and examples, for a terminal."""

from __future__ import annotations

TOPICS = {
    "files": (
        "Which files a command reads.",
        """\
A vmorch file is a Compose file whose services are virtual machines. Without -f it is looked for
in this directory and those above it: vmorch.yaml, compose.yaml, docker-compose.yaml (.yml too),
with an .override beside it. Several -f are merged by Compose's rules. ${VARIABLE}s come from the
environment, and from .env beside the first file.

  vmorch validate                         check the files; needs no daemon
  vmorch config                           the file as it is understood
  vmorch -f base.yaml -f test.yaml up     two files, the second over the first
""",
    ),
    "environments": (
        "Several environments side by side, and how they end.",
        """\
An environment is one running copy of a file, with a network of its own. Its name is the file's
'name:', or the directory's; -p gives another, so that the same file runs twice:

  vmorch -p one up; vmorch -p two up
  vmorch env ls                           what there is on this host
  vmorch env rm two                       from anywhere

Two environments cannot publish the same port or route the same host name. Let vmorch choose the
port (ports: ["8080"]; 'vmorch port web 8080' tells it), and put ${COMPOSE_PROJECT_NAME} into the
host name of a route.

For tests, an environment can end by itself, with its volumes, whatever crashed:

  vmorch up --ttl 2h                      removed after two hours
  vmorch up --holder $$                   removed when this shell has ended, also by kill -9
""",
    ),
    "states": (
        "What the states in 'vmorch ps' mean.",
        """\
  pending    waits: for a dependency, for a free boot slot, or for the time of its next restart
  starting   its disk is made and its guest created
  running    it runs, but is not ready (yet): REASON says what is missed
  ready      its health check says yes; it gets traffic
  draining   gets no new connections, finishes those it has
  stopping   shuts down
  stopped    does not run, keeps its disk: by 'vmorch stop', or because its work is done
  sleeping   its memory is in a file, 'vmorch start' goes on from there: by 'vmorch stop --sleep'
  paused     stands still in memory: by 'vmorch pause'
  failed     does not run and is not restarted any more

  vmorch why orders-1                     what it waits for, in numbers, and what happens next
  vmorch events                           how it came to that
  vmorch logs --source console orders-1   what its kernel said
""",
    ),
    "forks": (
        "How instances come up in seconds, and how to steer that.",
        """\
When the first instance of a revision is ready, an anonymous one is booted beside it, without
secrets, volumes or network, and kept as a warm snapshot: RAM and disk. Later instances are forked
from it and told who they are, which takes seconds instead of a boot. START in 'vmorch ps' says
which way an instance came. All environments with the very same service share one snapshot.

  start: cold                             in the file: instances of this service always boot
  start: {fork: {service: keep}}          the service goes on as it ran in the snapshot

  vmorch snapshot ls                      what there is, for which services, and its size
  vmorch snapshot create orders           now, without waiting for an instance
  vmorch snapshot rm orders               new instances boot cold; those that live stay
  vmorch events -f                        why there is none: snapshot-failed, fork-failed
""",
    ),
    "ports": (
        "How a service is reached.",
        """\
From other services by its name and the ports under 'expose:', on an address that is the same for
the service's whole life. From this host in two ways:

  route: {host: web.localhost}            HTTP by host name, on the daemon's HTTP port
  ports: ["8000:8080"]                    port 8000 of 127.0.0.1 (or of the address you name)
  ports: ["8080"]                         a free port of vmorch's choice, kept until 'down'

  vmorch port web 8080                    127.0.0.1:31234
  curl -H 'Host: web.localhost' http://127.0.0.1:8080/
""",
    ),
    "guests": (
        "How to look into a guest, and what to try when it does not start.",
        """\
  vmorch exec orders-1 ls                 as the service's user, in its directory
  vmorch ssh orders-1                     a root shell
  vmorch cp orders-1:/etc/hosts .         files, both ways
  vmorch logs -f orders                   what the service writes
  vmorch console orders-1                 the serial console; works without network; Ctrl-] leaves
  vmorch logs --source console orders-1   what the console said, also of guests that are gone
""",
    ),
    "exit-codes": (
        "What the exit codes mean.",
        """\
  0  done                    4  not found              130  interrupted
  1  failed                  5  daemon not reachable   141  nobody reads on
  2  usage                   6  timed out
  3  invalid file            7  refused: conflict, capacity

exec and ssh end with the exit code of the command in the guest.

  vmorch wait --timeout 60 || echo "not ready: $?"
""",
    ),
    "settings": (
        "Variables that the command line knows.",
        """\
  VMORCH_FILE       files, separated by ':', instead of -f
  VMORCH_PROJECT    the environment's name, instead of -p
  VMORCH_PROFILES   profiles, separated by ',', beside --profile
  VMORCH_SOCKET     the daemon's socket, instead of --socket

  VMORCH_PROJECT=test1 vmorch ps
""",
    ),
}
