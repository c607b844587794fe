"""Shell text that runs in a guest to start a command as somebody, or to send it a signal. Pure.

`vmorch-guest exec DIR` becomes the process that DIR describes; these scripts make such a DIR
under /run/vmorch/exec, named TOKEN.PID after the session and the script's own process. The
script stays as the command's parent: it turns a death by signal into 128 + number, as a shell
does, and takes the DIR away. What a killed one left, the next one removes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from vmorch.errors import UsageError

# How long the script that sends a signal may take.
SIGNAL_SECONDS = 40.0
_SIGNAL = re.compile(r"(?:SIG)?([A-Z][A-Z0-9+-]{1,11})\Z")

# Signals are for the command; `trap :` does not reach it, as exec resets what is trapped.
_BEGIN = """
trap : HUP INT QUIT TERM USR1 USR2 ALRM WINCH
umask 077
all=/run/vmorch/exec own=/run/vmorch/exec/$1.$$
shift
mkdir -p "$all"
for old in "$all"/*; do [ -d "/proc/${old##*.}" ] || rm -rf "$old"; done
rm -rf "$own"
"""
_END = """
printf '%s\\0' "$@" >"$own/argv"
: >"$own/started"
/usr/lib/vmorch/vmorch-guest exec "$own"
code=$?
rm -rf "$own"
exit $code
"""
# Arguments: user, directory, count of environment entries, the entries, the command.
_GIVEN = """
mkdir "$own"
user=$1 directory=$2 count=$3
shift 3
[ -z "${TERM:-}" ] || printf 'TERM=%s\\0' "$TERM" >"$own/environment"
while [ "$count" -gt 0 ]; do
    printf '%s\\0' "$1" >>"$own/environment"
    shift
    count=$((count - 1))
done
name=${user%%:*} home=/ shell=
while IFS=: read -r account x number x x at program; do
    if [ "$account" = "${name:-root}" ] || [ "$number" = "$name" ]; then
        home=$at shell=$program
        break
    fi
done </etc/passwd
case $shell in ''|*/nologin|*/false) shell=/bin/sh ;; esac
[ $# -gt 0 ] || set -- "$shell" -l
printf %s "$user" >"$own/user"
printf %s "${directory:-$home}" >"$own/directory"
"""
# The service's own description, or root's bare one where there is none.
_OF_SERVICE = """
cp -R /run/vmorch/service "$own" 2>/dev/null || mkdir "$own"
"""
# KILL takes just the command, as nothing would be left to say so if the script died as well.
# The session may be seconds old in a slow guest: wait until the script has its command as a
# child, before which it would swallow the signal itself.
_SIGNAL_SCRIPT = """
signal=$2 attempt=0
while [ $attempt -lt 300 ]; do
    for own in /run/vmorch/exec/"$1".*; do
        [ -e "$own/started" ] || continue
        pid=${own##*.}
        command=$(cat "/proc/$pid/task/$pid/children")
        [ -n "$command" ] || continue
        if [ "$signal" != KILL ]; then kill -s "$signal" -- "-$pid" && exit; fi
        kill -s "$signal" $command && exit
    done
    sleep 0.1
    attempt=$((attempt + 1))
done 2>/dev/null
exit 1
"""


def as_user(
    token: str,
    argv: Sequence[str] | None,
    *,
    user: str,
    working_dir: str | None,
    environment: Mapping[str, str],
) -> list[str]:
    """A command for root that runs `argv` (None: a login shell) as `user` ("" is root) in
    `working_dir` (None: the user's home)."""
    entries = [f"{name}={value}" for name, value in environment.items()]
    numbers = [token, user, working_dir or "", str(len(entries))]
    return _script(_BEGIN + _GIVEN + _END, [*numbers, *entries, *(argv or ())])


def as_service(token: str, argv: Sequence[str]) -> list[str]:
    """A command for root that runs `argv` with the service's user, directory, environment."""
    return _script(_BEGIN + _OF_SERVICE + _END, [token, *argv])


def signal(token: str, name: str) -> list[str]:
    """A command for root that sends the session's command a signal.

    Raises:
        UsageError: `name` cannot be the name of one.
    """
    match = _SIGNAL.match(name)
    if match is None:
        raise UsageError(f"{name!r} is not the name of a signal.")
    return _script(_SIGNAL_SCRIPT, [token, match.group(1)])


def shell_line(argv: Sequence[str]) -> str:
    """`argv` as one line for a login shell, whose process it replaces: so the script leads the
    session's process group."""
    return "exec " + shlex.join(argv)


def _script(text: str, arguments: Sequence[str]) -> list[str]:
    return ["/bin/sh", "-c", text, "sh", *arguments]
