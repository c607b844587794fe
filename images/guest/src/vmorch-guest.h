/* vmorch-guest: what a guest needs and a shell cannot do. One static program for every base. */
#ifndef VMORCH_GUEST_H
#define VMORCH_GUEST_H

#include <stddef.h>
#include <sys/types.h>

/* Exit codes of shells and container engines: found but not runnable, not found. */
#define EXIT_NOT_RUNNABLE 126
#define EXIT_NOT_FOUND 127

/* Prints "vmorch-guest: MESSAGE: errno's text" (no text when errno is 0) and exits with `code`. */
_Noreturn void die(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* `name` inside `directory` unless it is absolute. The content is NUL-terminated, its size without that NUL in *size; NULL when it is not there. */
char *read_file(const char *directory, const char *name, size_t *size);

/* Dies when there are fewer bytes; `path` is for the message. */
void read_fully(int fd, char *buffer, size_t size, const char *path);

/* NUL-terminated strings of a file as a NULL-terminated vector; an absent file is an empty one. */
char **read_strings(const char *directory, const char *name);

/* The first line of a file, or `otherwise` when the file is absent or empty. */
char *read_word(const char *directory, const char *name, const char *otherwise);

/* The same as a number; `otherwise` also when it is none above zero. */
int read_number(const char *directory, const char *name, int otherwise);

struct account {
    uid_t uid;
    gid_t gid;
    const char *home;
    gid_t groups[129]; /* one place is kept for the primary group */
    size_t group_count;
};

/* "", "user", "uid", either with ":group" or ":gid". Dies with 126 when a name is unknown. */
void find_account(const char *text, struct account *account);

enum { SEED_BYTES = 64 };

/* Mixes SEED_BYTES into the kernel's generator; 0 (and errno) when that is not possible. */
int reseed(const char *bytes);

/* The time was `epoch` when the uptime (/proc/uptime) was `since`; both in seconds, as text. */
void set_clock(const char *epoch, const char *since);

_Noreturn void exec_service(const char *directory);

int command_exec(int argc, char **argv);
int command_grow(int argc, char **argv);
int command_supervise(int argc, char **argv);
int command_unpack(int argc, char **argv);
int command_wake(int argc, char **argv);

#endif
