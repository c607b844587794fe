/* Users and groups from /etc/passwd and /etc/group. glibc's own look-ups load shared NSS modules,
 * which a static program must not. Meanings are those of a Dockerfile's USER. */
#include "vmorch-guest.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef ACCOUNTS /* tests have some of their own */
#define ACCOUNTS "/etc"
#endif
#define PASSWD_FILE ACCOUNTS "/passwd"
#define GROUP_FILE ACCOUNTS "/group"

enum { FIELDS = 7 };

static int is_number(const char *text)
{
    if (!*text)
        return 0;
    for (; *text; text++)
        if (!isdigit((unsigned char)*text))
            return 0;
    return 1;
}

/* Splits a line at colons in place; missing fields are empty. */
static void split(char *line, char *fields[FIELDS])
{
    line[strcspn(line, "\n")] = '\0';
    for (int i = 0; i < FIELDS; i++) {
        fields[i] = line;
        line += strcspn(line, ":");
        if (*line)
            *line++ = '\0';
    }
}

/* The line whose name (field 0) or number (field 2) is `key`, a name having precedence. */
static int find_line(const char *path, const char *key, char **line, char *fields[FIELDS])
{
    int kinds = is_number(key) ? 2 : 1;

    for (int kind = 0; kind < kinds; kind++) {
        FILE *file = fopen(path, "re");
        size_t room = 0;
        if (!file)
            return 0;
        while (getline(line, &room, file) > 0) {
            split(*line, fields);
            if (!strcmp(fields[kind ? 2 : 0], key)) {
                fclose(file);
                return 1;
            }
        }
        fclose(file);
        free(*line);
        *line = NULL;
    }
    return 0;
}

static unsigned long number(const char *text)
{
    return strtoul(text, NULL, 10);
}

static gid_t find_group(const char *text)
{
    char *line = NULL, *fields[FIELDS];

    if (find_line(GROUP_FILE, text, &line, fields))
        return (gid_t)number(fields[2]);
    errno = 0;
    if (!is_number(text))
        die(EXIT_NOT_RUNNABLE, "there is no group '%s' in /etc/group", text);
    return (gid_t)number(text);
}

static int has_member(char *members, const char *name)
{
    for (char *member = strtok(members, ","); member; member = strtok(NULL, ","))
        if (!strcmp(member, name))
            return 1;
    return 0;
}

static void add_groups_of(const char *name, struct account *account)
{
    FILE *file = fopen(GROUP_FILE, "re");
    char *line = NULL, *fields[FIELDS];
    size_t room = 0;
    const size_t limit = sizeof account->groups / sizeof account->groups[0] - 1;

    while (file && getline(&line, &room, file) > 0) {
        split(line, fields);
        if (account->group_count < limit && has_member(fields[3], name))
            account->groups[account->group_count++] = (gid_t)number(fields[2]);
    }
    if (file)
        fclose(file);
    free(line);
}

void find_account(const char *text, struct account *account)
{
    char *user = strdup(*text ? text : "0"), *line = NULL, *fields[FIELDS];
    char *group = strchr(user, ':');

    if (group)
        *group++ = '\0';
    if (group && !*group)
        group = NULL;
    if (!*user)
        user = "0";
    *account = (struct account){.home = "/"};
    if (find_line(PASSWD_FILE, user, &line, fields)) {
        account->uid = (uid_t)number(fields[2]);
        account->gid = (gid_t)number(fields[3]);
        account->home = fields[5];
        if (!group)
            add_groups_of(fields[0], account);
    } else if (is_number(user)) {
        account->uid = (uid_t)number(user);
    } else {
        errno = 0;
        die(EXIT_NOT_RUNNABLE, "there is no user '%s' in /etc/passwd", user);
    }
    if (group)
        account->gid = find_group(group);
    account->groups[account->group_count++] = account->gid;
}
