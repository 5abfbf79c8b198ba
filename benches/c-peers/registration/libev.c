// libev: an ev_io for each eventfd, in one array. libev calls epoll_ctl in the following turn.
#include <ev.h>

#include "registration.h"

static struct ev_loop *loop;

static void readable(struct ev_loop *ours, ev_io *watcher, int revents) {
    (void)ours, (void)revents;
    add_up(watcher->fd);
}

static void register_all(void) {
    ev_io *watchers = malloc(count * sizeof *watchers);
    for (int i = 0; i < count; i++) {
        ev_io_init(&watchers[i], readable, sources[i], EV_READ);
        ev_io_start(loop, &watchers[i]);
    }
}

static void turn(void) { ev_run(loop, EVRUN_NOWAIT); }

int main(int argc, char **argv) {
    open_sources(argc, argv);
    loop = ev_loop_new(EVBACKEND_EPOLL);
    if (!loop) fail("ev_loop_new");
    measure_registration();
    return 0;
}
