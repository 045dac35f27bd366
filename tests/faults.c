/* A disk that fails: for LD_PRELOAD. After faults_arm one write or sync of a file under a folder fails.

   kind 0: no space, then and ever after; 1: an input/output error, once; 2: half of a write, once.
   *counter, of a file that others may read, is the number of writes and syncs so far. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

static char under[PATH_MAX];
static long at;
static int kind;
static volatile long *counter;

int faults_arm(const char *folder, long number, int how, const char *count)
{
    int file = open(count, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof(long)))
        return -1;
    counter = mmap(0, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    at = number, kind = how;
    snprintf(under, sizeof under, "%s/", folder);
    return 0;
}

static int due(int file)
{
    char link[64], path[PATH_MAX];
    if (!*under)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || strncmp(path, under, strlen(under)))
        return 0;
    long seen = __sync_add_and_fetch(counter, 1);
    return kind == 0 ? seen >= at : seen == at;
}

static int fail(void)
{
    errno = kind ? EIO : ENOSPC;
    return -1;
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *bytes, size_t length)
{
    if (due(file)) {
        if (kind != 2)
            return fail();
        length = (length + 1) / 2;
    }
    return REAL(write)(file, bytes, length);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t place)
{
    return due(file) && kind != 2 ? fail() : REAL(pwrite64)(file, bytes, length, place);
}

ssize_t writev(int file, const struct iovec *parts, int number)
{
    return due(file) && kind != 2 ? fail() : REAL(writev)(file, parts, number);
}

int fsync(int file)
{
    return due(file) && kind != 2 ? fail() : REAL(fsync)(file);
}

int fdatasync(int file)
{
    return due(file) && kind != 2 ? fail() : REAL(fdatasync)(file);
}
