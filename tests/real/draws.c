/* What forks of one guest draw from the kernel's generator, before anything else draws.
 *
 *   draws wait DISK FILE   wait until the disk's last bytes are no zeros any more, which is how a
 *                          fork notices that it is one; then draw, into FILE
 *   draws now              draw, and say what time it is
 *
 * While it waits it starts no process and reseeds the generator every second, so that the kernel
 * does not do so by itself just after a resume: in a young guest it does every few seconds. */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/random.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* Half by getrandom, half from the device. The kernel takes a step for each, and for a draw of its
 * own: that may come in between, so equal generators are told by equal draws among many. */
enum { DRAWS = 32, BYTES = 32, TAIL = 4096, PAUSE_MILLISECONDS = 20 };

static void check(int fine, const char *what)
{
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static void draw(FILE *out)
{
    unsigned char drawn[DRAWS][BYTES];
    int device = open("/dev/urandom", O_RDONLY);

    for (int i = 0; i < DRAWS; i += 2) {
        check(getrandom(drawn[i], BYTES, 0) == BYTES, "getrandom");
        check(read(device, drawn[i + 1], BYTES) == BYTES, "/dev/urandom");
    }
    for (int i = 0; i < DRAWS; i++) {
        fputs(i % 2 ? "urandom " : "getrandom ", out);
        for (int j = 0; j < BYTES; j++)
            fprintf(out, "%02x", drawn[i][j]);
        fputc('\n', out);
    }
}

static int marked(int disk, off_t at, char *buffer)
{
    check(pread(disk, buffer, TAIL, at) == TAIL, "read");
    return buffer[0] != 0;
}

static void wait_for_mark(const char *path)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MILLISECONDS * 1000000L};
    uint64_t size = 0;
    char *buffer = aligned_alloc(TAIL, TAIL);
    int disk = open(path, O_RDONLY | O_DIRECT), random = open("/dev/urandom", O_WRONLY);

    check(disk >= 0 && ioctl(disk, BLKGETSIZE64, &size) == 0, path);
    for (int rounds = 0; !marked(disk, (off_t)size - TAIL, buffer); rounds++) {
        if (rounds % (1000 / PAUSE_MILLISECONDS) == 0)
            check(ioctl(random, RNDRESEEDCRNG) == 0, "reseed");
        nanosleep(&pause, NULL);
    }
    close(disk);
}

int main(int argc, char **argv)
{
    struct timespec now;

    if (argc == 4 && !strcmp(argv[1], "wait")) {
        FILE *out = fopen(argv[3], "w");
        check(out != NULL, argv[3]);
        wait_for_mark(argv[2]);
        draw(out);
        fputs("end\n", out);
        fclose(out);
        for (;;)
            pause();
    }
    draw(stdout);
    clock_gettime(CLOCK_REALTIME, &now);
    printf("time %lld.%09ld\n", (long long)now.tv_sec, now.tv_nsec);
    return 0;
}
