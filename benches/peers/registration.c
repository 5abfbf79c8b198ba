// Registration by hand: a slot and a small allocation for each source, ioctl(FIONBIO) and epoll_ctl(ADD); with "bare" the
// epoll_ctl alone. Prints {"ns_per_op": NANOSECONDS}. Usage: registration N [bare]
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>

typedef struct {
    uint64_t *entry;
    uint64_t rest[7];
} Slot;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int main(int argc, char **argv) {
    long n = argc > 1 ? atol(argv[1]) : 1000;
    int bare = argc > 2;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int *fds = malloc(n * sizeof *fds);
    for (long i = 0; i < n; i++) fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    Slot *slots = NULL;
    long capacity = 0;
    uint64_t began = now_ns();
    for (long i = 0; i < n; i++) {
        int on = 1;
        if (!bare && ioctl(fds[i], FIONBIO, &on) != 0) perror("ioctl");
        struct epoll_event watched = {.events = EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLET, .data.u64 = i};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &watched) != 0) perror("epoll_ctl");
        if (bare) continue;
        if (i == capacity) slots = realloc(slots, (capacity = capacity ? 2 * capacity : 4) * sizeof *slots);
        slots[i].entry = malloc(24);
        *slots[i].entry = i;
    }
    printf("{\"ns_per_op\": %.1f}\n", (double)(now_ns() - began) / n);
    return 0;
}
