// libevent: a persistent event for each pipe.
#include <event2/event.h>

#include "chain.h"

static struct event_base *base;

static void readable(evutil_socket_t fd, short what, void *place) {
    (void)fd, (void)what;
    pass_on((int)(intptr_t)place);
    if (is_done()) event_base_loopbreak(base);
}

static void run(void *loop) { event_base_dispatch(loop); }

int main(int argc, char **argv) {
    open_chain(argc, argv);
    base = event_base_new();
    for (int i = 0; i < sources; i++)
        event_add(event_new(base, readers[i], EV_READ | EV_PERSIST, readable, (void *)(intptr_t)i), NULL);
    measure_chain(run, base);
    return 0;
}
