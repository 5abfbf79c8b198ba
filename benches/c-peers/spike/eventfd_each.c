// An eventfd for each task, which carries the task's number. It has values only, and ignores
// --form.
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "spike.h"

enum { BATCH = 1024 };

static int epoll;
static long writes;

// Waits while the limit of open files is reached.
static int open_event(void) {
    for (;;) {
        int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (event >= 0) return event;
        if (errno != EMFILE) fail("eventfd");
        sched_yield();
    }
}

static void hand_over(uint64_t value) {
    int event = open_event();
    struct epoll_event watched = {.events = EPOLLIN | EPOLLET, .data.fd = event};
    checked(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &watched), "epoll_ctl");
    // The number of a task may be 0, which would be no event, so this writes another number.
    checked(eventfd_write(event, value + 1), "write");
    writes++;
}

static void run(void) {
    static struct epoll_event ready[BATCH];
    while (!is_done()) {
        int count = checked(epoll_wait(epoll, ready, BATCH, -1), "epoll_wait");
        for (int i = 0; i < count; i++) {
            uint64_t number;
            checked(eventfd_read(ready[i].data.fd, &number), "read");
            close(ready[i].data.fd);
            take(number - 1);
        }
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    raise_open_files_limit();
    epoll = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    measure_spike(run, &writes);
    return 0;
}
