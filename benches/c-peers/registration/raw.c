// By hand: epoll_ctl, level-triggered, and a table of functions.
#include <sys/epoll.h>

#include "registration.h"

enum { BATCH = 1024 };

typedef struct {
    void (*handle)(int source);
    int source;
} Handler;

static int epoll;

static void register_all(void) {
    Handler *handlers = malloc(count * sizeof *handlers);
    for (int i = 0; i < count; i++) {
        handlers[i] = (Handler){add_up, sources[i]};
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &handlers[i]};
        checked(epoll_ctl(epoll, EPOLL_CTL_ADD, sources[i], &event), "epoll_ctl");
    }
}

static void turn(void) {
    static struct epoll_event ready[BATCH];
    int found = checked(epoll_wait(epoll, ready, BATCH, 0), "epoll_wait");
    for (int i = 0; i < found; i++) {
        Handler *handler = ready[i].data.ptr;
        handler->handle(handler->source);
    }
}

int main(int argc, char **argv) {
    open_sources(argc, argv);
    epoll = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    measure_registration();
    return 0;
}
