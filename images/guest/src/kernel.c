/* The two things that a shell cannot ask of the kernel: fresh randomness, a larger file system. */
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
#include <unistd.h>

#define SEED_BYTES 64
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t) /* fs/ext4/ext4.h; no header exports it */

/* Bytes written to /dev/urandom are mixed in at the next reseed only, minutes later; forks of one
 * snapshot would go on alike until then. So: credit them, then reseed at once. */
int command_reseed(int argc, char **argv)
{
    struct {
        int entropy_count, buf_size;
        char bytes[SEED_BYTES];
    } pool = {SEED_BYTES * 8, SEED_BYTES, {0}};
    size_t size = 0;
    char *seed = read_file(".", argv[0], &size);
    int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);

    (void)argc;
    errno = 0;
    if (!seed || size != SEED_BYTES)
        die(1, "%s must hold exactly %d bytes", argv[0], SEED_BYTES);
    memcpy(pool.bytes, seed, SEED_BYTES);
    if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
        die(1, "cannot reseed the kernel");
    explicit_bzero(seed, SEED_BYTES);
    explicit_bzero(&pool, sizeof pool);
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
