#include "vmorch-guest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage;
} commands[] = {
    {"wake", command_wake, "wake EPOCH         go on at that time, in a guest that slept"},
    {"exec", command_exec, "exec DIR           become the service that DIR describes"},
    {"supervise", command_supervise, "supervise DIR      run that service again and again"},
    {"unpack", command_unpack, "unpack SEED DIR ROOT [EPOCH SINCE]  lay out a seed's bundle"},
    {"grow", command_grow, "grow PATH          grow the ext4 at PATH to its device"},
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

void die(int code, const char *format, ...)
{
    int error = errno;
    va_list arguments;

    fputs("vmorch-guest: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (error)
        fprintf(stderr, ": %s", strerror(error));
    fputc('\n', stderr);
    exit(code);
}

int main(int argc, char **argv)
{
    if (argc >= 3)
        for (int i = 0; i < COMMAND_COUNT; i++)
            if (!strcmp(argv[1], commands[i].name))
                return commands[i].run(argc - 2, argv + 2);
    fputs("usage: vmorch-guest COMMAND ARGUMENT\n", stderr);
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(stderr, "  %s\n", commands[i].usage);
    return 2;
}
