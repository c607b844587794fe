#include "vmorch-guest.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Whoever started us (init, a shell, the agent) may have ignored or blocked signals; exec keeps
 * both, and a service that cannot be told to stop is killed instead. */
static void reset_signals(void)
{
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void set_environment(const char *directory, const char *home)
{
    char host[256] = "localhost";
    char **entries = read_strings(directory, "environment");

    gethostname(host, sizeof host - 1);
    clearenv();
    setenv("PATH", DEFAULT_PATH, 1);
    setenv("HOME", home, 1);
    setenv("HOSTNAME", host, 1);
    for (; *entries; entries++)
        if (strchr(*entries, '='))
            putenv(*entries);
}

void exec_service(const char *directory)
{
    struct account account;
    char **argv = read_strings(directory, "argv");
    const char *work = read_word(directory, "directory", "/");

    errno = 0;
    if (!argv[0])
        die(EXIT_NOT_FOUND, "%s/argv is empty: there is no service to run", directory);
    find_account(read_word(directory, "user", ""), &account);
    set_environment(directory, account.home);
    reset_signals();
    umask(022);
    if (chdir(work) < 0)
        die(EXIT_NOT_RUNNABLE, "cannot change to the working directory '%s'", work);
    if (setgroups(account.group_count, account.groups) < 0 || setgid(account.gid) < 0 ||
        setuid(account.uid) < 0)
        die(EXIT_NOT_RUNNABLE, "cannot become user %u", (unsigned)account.uid);
    execvp(argv[0], argv);
    die(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE, "cannot run '%s'", argv[0]);
}

int command_exec(int argc, char **argv)
{
    (void)argc;
    exec_service(argv[0]);
}
