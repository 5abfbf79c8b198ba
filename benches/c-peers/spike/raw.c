// By hand: a vector under a mutex, which is swapped for an empty one, and an eventfd, which is
// written if the vector was empty.
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "spike.h"

static int epoll, event;
static long writes;

static void hand_over(uint64_t value) {
    if (push(value)) {
        checked(eventfd_write(event, 1), "write");
        writes++;
    }
}

static void run(void) {
    while (!is_done()) {
        struct epoll_event ready;
        checked(epoll_wait(epoll, &ready, 1, -1), "epoll_wait");
        run_pushed();
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    epoll = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    event = checked(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
    // Edge-triggered, so no read is needed.
    struct epoll_event watched = {.events = EPOLLIN | EPOLLET};
    checked(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &watched), "epoll_ctl");
    measure_spike(run, &writes);
    return 0;
}
