/* Preloaded into one daemon of a test: its disk syncs late or not at all, and its wall clock is elsewhere.
 *
 * The file named by NEMESIS_SHIM is shared memory of eight 64-bit integers (see shim.py): orders first, then counts of
 * what was really done. Only the wall clock is moved; the clocks that count leases are the machine's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SYNC_DELAY_US, SYNC_FAILS, WALL_OFFSET_S, SYNCS, SYNCS_DELAYED, SYNCS_FAILED, WALL_READS_MOVED, FIELDS };

static volatile int64_t nowhere[FIELDS];
static volatile int64_t *shared = nowhere;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("NEMESIS_SHIM");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *memory = mmap(NULL, sizeof nowhere, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED)
        shared = memory;
}

static void count(int field) { __atomic_add_fetch(&shared[field], 1, __ATOMIC_RELAXED); }

static int sync_by(long number, int file) {
    int64_t delay_us = shared[SYNC_DELAY_US];
    count(SYNCS);
    if (delay_us > 0) {
        struct timespec left = {delay_us / 1000000, delay_us % 1000000 * 1000};
        count(SYNCS_DELAYED);
        while (nanosleep(&left, &left) != 0 && errno == EINTR)
            ;
    }
    if (shared[SYNC_FAILS]) {
        count(SYNCS_FAILED);
        errno = EIO;
        return -1;
    }
    return (int)syscall(number, file);
}

int fdatasync(int file) { return sync_by(SYS_fdatasync, file); }
int fsync(int file) { return sync_by(SYS_fsync, file); }

static int64_t moved_s(void) {
    int64_t offset_s = shared[WALL_OFFSET_S];
    if (offset_s != 0)
        count(WALL_READS_MOVED);
    return offset_s;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int status = (int)syscall(SYS_clock_gettime, clock, now);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += moved_s();
    return status;
}

int gettimeofday(struct timeval *now, void *zone) {
    int status = (int)syscall(SYS_gettimeofday, now, zone);
    if (status == 0 && now != NULL)
        now->tv_sec += moved_s();
    return status;
}

time_t time(time_t *result) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    now.tv_sec += moved_s();
    if (result != NULL)
        *result = now.tv_sec;
    return now.tv_sec;
}
