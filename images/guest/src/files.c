#include "vmorch-guest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void read_fully(int fd, char *buffer, size_t size, const char *path)
{
    size_t done = 0;

    while (done < size) {
        ssize_t got = read(fd, buffer + done, size - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            die(EXIT_NOT_RUNNABLE, "cannot read %s", path);
        done += (size_t)got;
    }
}

char *read_file(const char *directory, const char *name, size_t *size)
{
    char path[PATH_MAX];
    struct stat status;

    snprintf(path, sizeof path, "%s%s%s", *name == '/' ? "" : directory,
             *name == '/' ? "" : "/", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT)
            return NULL;
        die(EXIT_NOT_RUNNABLE, "cannot open %s", path);
    }
    if (fstat(fd, &status) < 0)
        die(EXIT_NOT_RUNNABLE, "cannot stat %s", path);
    *size = (size_t)status.st_size;
    char *content = malloc(*size + 1);
    if (!content)
        die(EXIT_NOT_RUNNABLE, "no memory for %s", path);
    read_fully(fd, content, *size, path);
    content[*size] = '\0';
    close(fd);
    return content;
}

char **read_strings(const char *directory, const char *name)
{
    size_t size = 0, count = 0, next = 0;
    char *content = read_file(directory, name, &size);

    for (size_t i = 0; i < size; i++)
        count += content[i] == '\0';
    /* A last string without its NUL is one as well: the buffer is terminated. */
    if (size && content[size - 1] != '\0')
        count++;
    char **strings = calloc(count + 1, sizeof *strings);
    if (!strings)
        die(EXIT_NOT_RUNNABLE, "no memory for %s", name);
    for (char *at = content; next < count; at += strlen(at) + 1)
        strings[next++] = at;
    return strings;
}

char *read_word(const char *directory, const char *name, const char *otherwise)
{
    size_t size = 0;
    char *content = read_file(directory, name, &size);

    if (content)
        content[strcspn(content, "\n")] = '\0';
    return content && *content ? content : (char *)otherwise;
}

int read_number(const char *directory, const char *name, int otherwise)
{
    int number = atoi(read_word(directory, name, ""));

    return number > 0 ? number : otherwise;
}
