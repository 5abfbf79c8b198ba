// By hand: epoll_wait, level-triggered, and a table of functions. This is the base of the ratios.
#include <sys/epoll.h>

#include "chain.h"

enum { BATCH = 1024 };

typedef struct {
    void (*handle)(int place);
    int place;
} Handler;

static void run(void *loop) {
    static struct epoll_event ready[BATCH];
    while (!is_done()) {
        int count = epoll_wait(*(int *)loop, ready, BATCH, -1);
        for (int i = 0; i < count; i++) {
            Handler *handler = ready[i].data.ptr;
            handler->handle(handler->place);
        }
    }
}

int main(int argc, char **argv) {
    open_chain(argc, argv);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    Handler *handlers = malloc(sources * sizeof *handlers);
    for (int i = 0; i < sources; i++) {
        handlers[i] = (Handler){pass_on, i};
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &handlers[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, readers[i], &event)) fail("epoll_ctl");
    }
    measure_chain(run, &epoll);
    return 0;
}
