/* What a shell cannot ask of the kernel: fresh randomness, a time in fractions of a second, a
 * larger file system. */
#include "vmorch-guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/random.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#ifndef RANDOM /* tests leave their host's alone */
#define RANDOM "/dev/urandom"
#endif
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t) /* fs/ext4/ext4.h; no header exports it */

/* Bytes written to /dev/urandom are mixed in at the next reseed only, minutes later; forks of one
 * snapshot would go on alike until then. So: credit them, then reseed at once. */
int reseed(const char *bytes)
{
    struct {
        int entropy_count, buf_size;
        char bytes[SEED_BYTES];
    } pool = {SEED_BYTES * 8, SEED_BYTES, {0}};
    int fd = open(RANDOM, O_WRONLY | O_CLOEXEC);

    memcpy(pool.bytes, bytes, SEED_BYTES);
    int done = fd >= 0 && ioctl(fd, RNDADDENTROPY, &pool) == 0 && ioctl(fd, RNDRESEEDCRNG) == 0;
    explicit_bzero(&pool, sizeof pool);
    if (fd >= 0)
        close(fd);
    return done;
}

/* "12.5" in nanoseconds; doubles hold no present time in those. */
static long long nanoseconds(const char *text)
{
    char *end;
    long long value = strtoll(text, &end, 10);

    if (end == text || value < 0)
        die(2, "'%s' is no time", text);
    if (*end == '.')
        end++;
    for (int digit = 0; digit < 9; digit++)
        value = value * 10 + (*end >= '0' && *end <= '9' ? *end++ - '0' : 0);
    return value;
}

static void set_time(long long nanoseconds_now)
{
    const long long second = 1000000000;
    struct timespec now = {.tv_sec = nanoseconds_now / second, .tv_nsec = nanoseconds_now % second};

    if (clock_settime(CLOCK_REALTIME, &now) < 0)
        die(1, "cannot set the clock");
}

void set_clock(const char *epoch, const char *since)
{
    struct timespec uptime;

    clock_gettime(CLOCK_BOOTTIME, &uptime);
    set_time(nanoseconds(epoch) + uptime.tv_sec * 1000000000LL + uptime.tv_nsec -
             nanoseconds(since));
}

/* A guest that slept is who it was: only the time has passed, which its generator should know as
 * well. By one program, and no shell, as somebody may be waiting for the guest. */
int command_wake(int argc, char **argv)
{
    char seed[SEED_BYTES];

    (void)argc;
    set_time(nanoseconds(argv[0]));
    int fd = open("/dev/hwrng", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, seed, SEED_BYTES) != SEED_BYTES || !reseed(seed))
        fputs("vmorch-guest: the kernel could not be reseeded\n", stderr);
    explicit_bzero(seed, SEED_BYTES);
    return 0;
}

static uint64_t device_bytes(dev_t device)
{
    char path[64];
    unsigned long long sectors = 0;

    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/size", major(device), minor(device));
    FILE *file = fopen(path, "re");
    if (!file || fscanf(file, "%llu", &sectors) != 1)
        die(1, "cannot read the size of the device from %s", path);
    fclose(file);
    return sectors * 512ULL;
}

/* The kernel does nothing when the file system has that size already, so this is also the check. */
int command_grow(int argc, char **argv)
{
    struct stat status;
    int fd = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    (void)argc;
    if (fd < 0 || fstat(fd, &status) < 0)
        die(1, "cannot open %s", argv[0]);
    uint64_t blocks = device_bytes(status.st_dev) / (uint64_t)status.st_blksize;
    if (ioctl(fd, EXT4_IOC_RESIZE_FS, &blocks) < 0)
        die(1, "cannot grow the file system at %s", argv[0]);
    return 0;
}
