// How late a wait of 100 us to 1 ms ends, by hand: a timerfd set anew for each, and epoll_wait.
// Prints {"ns_per_op": NANOSECONDS} of the 99th percentile, and the median as "ns_median".
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

enum { WAITS = 2000 };

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static int ascending(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

int main(void) {
    static uint64_t late[WAITS];
    uint64_t seed = 88172645463325252ull;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event);
    for (int i = 0; i < WAITS; i++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        uint64_t due = now_ns() + 100000 + seed % 900000;
        struct itimerspec once = {.it_value = {due / 1000000000, due % 1000000000}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &once, NULL);
        epoll_wait(epoll, &event, 1, -1);
        late[i] = now_ns() - due;
    }
    qsort(late, WAITS, sizeof *late, ascending);
    printf("{\"ns_per_op\": %lu, \"ns_median\": %lu}\n", late[WAITS * 99 / 100], late[WAITS / 2]);
    return 0;
}
