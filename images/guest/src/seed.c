/* The bundle on the seed disk: one process reads it, reseeds the kernel, sets the clock and lays
 * out the files. A shell needs two dozen processes for that, each of which takes a fork 15 ms.
 *
 * The seed's names are read as Joliet has them. Both formats are read as our own host writes them
 * (the guest contract says how); whatever else is found is refused. */
#include "vmorch-guest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUNDLE "vmorch.tar"
#define VERSION "1"

enum {
    SECTOR = 2048,
    FIRST_DESCRIPTOR = 16,
    LAST_DESCRIPTOR = 31,
    SUPPLEMENTARY = 2,
    TERMINATOR = 255,
    ROOT_RECORD = 156,
    ESCAPES = 88,
    NAME_AT = 33,
    BLOCK = 512,
    MOST_BYTES = 64 << 20,
    LONGEST = 2 * PATH_MAX,
    NO_BUNDLE = 3, /* an exit code of its own: the guest is nobody, and may boot */
};

struct place {
    const char *directory; /* of what is for vmorch-identity */
    const char *root;      /* what root/ is laid over */
};

struct member {
    char path[PATH_MAX];
    char link[101];
    char kind;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    const char *content;
    size_t size;
};

static char *read_at(int fd, off_t offset, size_t size)
{
    char *buffer = malloc(size + 1);
    size_t done = 0;

    while (buffer && done < size) {
        ssize_t got = pread(fd, buffer + done, size - done, offset + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            die(1, "the seed cannot be read at %lld", (long long)offset);
        done += (size_t)got;
    }
    if (!buffer)
        die(1, "no memory for the seed");
    buffer[size] = '\0';
    return buffer;
}

static uint32_t number32(const char *at)
{
    const unsigned char *byte = (const unsigned char *)at;

    return byte[0] | byte[1] << 8 | byte[2] << 16 | (uint32_t)byte[3] << 24;
}

/* Sets where the extent of a directory record lies. */
static void extent(const char *record, off_t *offset, size_t *size)
{
    *offset = (off_t)number32(record + 2) * SECTOR;
    *size = number32(record + 10);
    errno = 0;
    if (*size > MOST_BYTES)
        die(1, "the seed is damaged");
}

/* UCS-2, big-endian, with or without a version. */
static int is_named(const char *record, size_t size, const char *name)
{
    size_t length = size > NAME_AT ? (unsigned char)record[NAME_AT - 1] / 2 : 0;
    size_t wanted = strlen(name);
    const char *at = record + NAME_AT;

    if (length < wanted || size < NAME_AT + 2 * length)
        return 0;
    for (size_t i = 0; i < wanted; i++)
        if (at[2 * i] || at[2 * i + 1] != name[i])
            return 0;
    return length == wanted || (at[2 * wanted] == 0 && at[2 * wanted + 1] == ';');
}

static void find_bundle(int fd, off_t *offset, size_t *size)
{
    for (int number = FIRST_DESCRIPTOR; number <= LAST_DESCRIPTOR; number++) {
        char *sector = read_at(fd, (off_t)number * SECTOR, SECTOR);
        unsigned char kind = (unsigned char)sector[0];
        errno = 0;
        if (memcmp(sector + 1, "CD001", 5) || kind == TERMINATOR)
            break;
        if (kind != SUPPLEMENTARY || memcmp(sector + ESCAPES, "%/", 2)) {
            free(sector);
            continue;
        }
        extent(sector + ROOT_RECORD, offset, size);
        char *directory = read_at(fd, *offset, *size);
        for (size_t at = 0; at + NAME_AT < *size;) {
            size_t length = (unsigned char)directory[at];
            if (!length) /* no record crosses the end of a sector */
                at = (at / SECTOR + 1) * SECTOR;
            else if (at + length <= *size && is_named(directory + at, length, BUNDLE)) {
                extent(directory + at, offset, size);
                return;
            }
            at += length;
        }
        break;
    }
    errno = 0;
    die(NO_BUNDLE, "there is no %s on the seed", BUNDLE);
}

/* Octal digits or, with the highest bit set, a big-endian number. */
static unsigned long field(const char *at, size_t size)
{
    unsigned long value = 0;

    if (*at & 0x80) {
        for (size_t i = 1; i < size; i++)
            value = value << 8 | (unsigned char)at[i];
        return value;
    }
    for (size_t i = 0; i < size && at[i]; i++)
        if (at[i] >= '0' && at[i] <= '7')
            value = value * 8 + (unsigned long)(at[i] - '0');
    return value;
}

/* The member at *at of the tar, and in *at where the next one is; 0 at the end. */
static int next_member(const char *tar, size_t size, size_t *at, struct member *member)
{
    char kind;
    int has_path = 0;

    do {
        if (*at + BLOCK > size || !tar[*at])
            return 0;
        const char *header = tar + *at;
        kind = header[156] ? header[156] : '0';
        member->size = field(header + 124, 12);
        member->content = header + BLOCK;
        *at += BLOCK;
        errno = 0;
        if (member->size > size - *at)
            die(1, "the bundle is cut off");
        if (kind == 'L') {
            snprintf(member->path, sizeof member->path, "%.*s", (int)member->size,
                     member->content);
            has_path = 1;
        } else if (!has_path && !memcmp(header + 257, "ustar\0", 6) && header[345])
            snprintf(member->path, sizeof member->path, "%.155s/%.100s", header + 345, header);
        else if (!has_path)
            snprintf(member->path, sizeof member->path, "%.100s", header);
        snprintf(member->link, sizeof member->link, "%.100s", header + 157);
        member->kind = kind;
        member->mode = (mode_t)field(header + 100, 8) & 07777;
        member->uid = (uid_t)field(header + 108, 8);
        member->gid = (gid_t)field(header + 116, 8);
        *at += (member->size + BLOCK - 1) / BLOCK * BLOCK;
    } while (kind == 'L');
    size_t length = strlen(member->path);
    if (length && member->path[length - 1] == '/')
        member->path[length - 1] = '\0';
    return 1;
}

static int find_member(const char *tar, size_t size, const char *path, struct member *member)
{
    size_t at = 0;

    while (next_member(tar, size, &at, member))
        if (!strcmp(member->path, path))
            return 1;
    return 0;
}

static int is_directory(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* `path` is given back as it was. */
static void make_parents(char *path, mode_t mode)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, mode) < 0 && errno != EEXIST)
            die(1, "cannot make %s", path);
        *slash = '/';
    }
}

static void own(const char *path, const struct member *member)
{
    if (lchown(path, member->uid, member->gid) < 0)
        die(1, "cannot give %s to %u", path, (unsigned)member->uid);
    /* After chown, which takes the bits of set-user-id away. */
    if (member->kind != '2' && chmod(path, member->mode) < 0)
        die(1, "cannot set the mode of %s", path);
}

/* A directory that is there keeps its mode and owner. */
static void put_directory(const char *path, const struct member *member)
{
    if (is_directory(path))
        return;
    unlink(path);
    if (mkdir(path, 0700) < 0)
        die(1, "cannot make %s", path);
    own(path, member);
}

static void write_fully(int fd, const char *content, size_t size, const char *path)
{
    while (size) {
        ssize_t done = write(fd, content, size);
        if (done < 0 && errno != EINTR)
            die(1, "cannot write %s", path);
        if (done > 0) {
            content += done;
            size -= (size_t)done;
        }
    }
}

/* A reader finds the old file or the new one. */
static void put_file(const char *path, const struct member *member)
{
    char draft[LONGEST + 16];

    snprintf(draft, sizeof draft, "%s.vmorch-new", path);
    unlink(draft);
    if (member->kind == '2') {
        if (symlink(member->link, draft) < 0)
            die(1, "cannot make %s", draft);
    } else {
        int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
            die(1, "cannot make %s", draft);
        write_fully(fd, member->content, member->size, draft);
        close(fd);
    }
    own(draft, member);
    if (rename(draft, path) < 0)
        die(1, "cannot replace %s", path);
}

static void put(const struct place *place, const struct member *member)
{
    char path[LONGEST];
    int in_root = !strncmp(member->path, "root/", 5);

    if (!strcmp(member->path, "root") || !strcmp(member->path, "random") ||
        !strcmp(member->path, "version") || member->kind == 'x' || member->kind == 'g')
        return;
    errno = 0;
    if (!strchr("0125", member->kind) || member->kind == '1')
        die(1, "the bundle's %s is of the unknown kind '%c'", member->path, member->kind);
    snprintf(path, sizeof path, "%s/%s", in_root ? place->root : place->directory,
             member->path + (in_root ? 5 : 0));
    make_parents(path, in_root ? 0755 : 0700);
    if (member->kind == '5')
        put_directory(path, member);
    else
        put_file(path, member);
}

/* systemd binds a transient id over an empty machine-id; the file below is what we replace. */
static void uncover_machine_id(const char *root)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/etc/machine-id", root);
    umount2(path, MNT_DETACH);
}

static void reseed_from(const char *tar, size_t size, int is_fork)
{
    struct member random;

    if (find_member(tar, size, "random", &random) && random.size == SEED_BYTES &&
        reseed(random.content))
        return;
    if (is_fork)
        die(1, "cannot reseed the kernel: a fork must not have another guest's random numbers");
    perror("vmorch-guest: cannot reseed the kernel");
}

int command_unpack(int argc, char **argv)
{
    struct place place;
    struct member member;
    off_t offset = 0;
    size_t size = 0, at = 0;
    const char *version = "";
    int fd = open(argv[0], O_RDONLY | O_CLOEXEC);

    if (argc != 3 && argc != 5)
        die(2, "unpack needs a seed, two directories, and for a fork the time and the uptime");
    if (fd < 0)
        die(1, "cannot open the seed %s", argv[0]);
    /* Under a fork the disk was exchanged: memory may hold blocks of the one before. A file has
     * none. */
    if (ioctl(fd, BLKFLSBUF, 0) < 0 && errno != ENOTTY)
        die(1, "cannot forget the cached blocks of %s", argv[0]);
    find_bundle(fd, &offset, &size);
    char *tar = read_at(fd, offset, size);
    if (find_member(tar, size, "version", &member))
        version = strndup(member.content, member.size);
    errno = 0;
    if (strcmp(version, VERSION) && strcmp(version, VERSION "\n"))
        die(1, "the bundle's version is unknown to this image");
    reseed_from(tar, size, argc == 5);
    if (argc == 5)
        set_clock(argv[3], argv[4]);
    place = (struct place){.directory = argv[1], .root = strcmp(argv[2], "/") ? argv[2] : ""};
    umask(0);
    uncover_machine_id(place.root);
    while (next_member(tar, size, &at, &member))
        put(&place, &member);
    explicit_bzero(tar, size);
    return 0;
}
