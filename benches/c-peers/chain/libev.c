// libev: an ev_io for each pipe, in one array.
#include <ev.h>

#include "chain.h"

static void readable(struct ev_loop *loop, ev_io *watcher, int revents) {
    (void)revents;
    pass_on((int)(intptr_t)watcher->data);
    if (is_done()) ev_break(loop, EVBREAK_ALL);
}

static void run(void *loop) { ev_run(loop, 0); }

int main(int argc, char **argv) {
    open_chain(argc, argv);
    struct ev_loop *loop = ev_loop_new(EVBACKEND_EPOLL);
    ev_io *watchers = malloc(sources * sizeof *watchers);
    for (int i = 0; i < sources; i++) {
        ev_io_init(&watchers[i], readable, readers[i], EV_READ);
        watchers[i].data = (void *)(intptr_t)i;
        ev_io_start(loop, &watchers[i]);
    }
    measure_chain(run, loop);
    return 0;
}
