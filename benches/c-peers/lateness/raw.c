// By hand: the lateness of timers of 100 us to 1 ms, one after the other. A timerfd is set for each
// timer, and epoll_wait waits for it.
// Options: --timers TIMERS. Prints {"ns_per_op": NANOSECONDS} of the 99th percentile, and "ns_median".
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "../common.h"

int main(int argc, char **argv) {
    long timers = number(argc, argv, "--timers", 2000);
    uint64_t *late = calloc(timers, sizeof *late);
    int epoll = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    int timer = checked(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd_create");
    // Edge-triggered, so no read is needed.
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    checked(epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event), "epoll_ctl");
    for (long i = 0; i < timers; i++) {
        uint64_t due = now_ns() + 100000 + next_random() % 900000;
        struct itimerspec once = {.it_value = {due / 1000000000, due % 1000000000}};
        checked(timerfd_settime(timer, TFD_TIMER_ABSTIME, &once, NULL), "timerfd_settime");
        checked(epoll_wait(epoll, &event, 1, -1), "epoll_wait");
        late[i] = now_ns() - due;
    }
    qsort(late, timers, sizeof *late, ascending);
    printf("{\"ns_per_op\": %lu, \"ns_median\": %lu}\n", late[timers * 99 / 100], late[timers / 2]);
    return 0;
}
