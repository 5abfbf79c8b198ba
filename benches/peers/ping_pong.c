// W2 by hand: two threads, each on a core of its own, with an eventfd, edge-triggered and never read, and epoll.
// Prints {"ns_per_op": NANOSECONDS}, the median of the way there and back.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 20000 };

static int epolls[2], events[2];
static long sent, answered;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core % sysconf(_SC_NPROCESSORS_ONLN), &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void tell(int side, long *number, long value) {
    uint64_t one = 1;
    __atomic_store_n(number, value, __ATOMIC_SEQ_CST);
    if (write(events[side], &one, sizeof one) != sizeof one) perror("write");
}

static void await(int side, long *number, long value) {
    struct epoll_event got;
    while (__atomic_load_n(number, __ATOMIC_SEQ_CST) < value) epoll_wait(epolls[side], &got, 1, -1);
}

static void *answer(void *unused) {
    pin(1);
    for (long i = 1; i <= ROUNDS; i++) {
        await(1, &sent, i);
        tell(0, &answered, i);
    }
    return unused;
}

static int ascending(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

int main(void) {
    static uint64_t took[ROUNDS];
    pin(0);
    for (int side = 0; side < 2; side++) {
        epolls[side] = epoll_create1(EPOLL_CLOEXEC);
        events[side] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        struct epoll_event watched = {.events = EPOLLIN | EPOLLET};
        epoll_ctl(epolls[side], EPOLL_CTL_ADD, events[side], &watched);
    }
    pthread_t other;
    pthread_create(&other, NULL, answer, NULL);
    for (long i = 1; i <= ROUNDS; i++) {
        uint64_t began = now_ns();
        tell(1, &sent, i);
        await(0, &answered, i);
        took[i - 1] = now_ns() - began;
    }
    pthread_join(other, NULL);
    qsort(took, ROUNDS, sizeof *took, ascending);
    printf("{\"ns_per_op\": %lu}\n", took[ROUNDS / 2]);
    return 0;
}
