// libev: an ev_idle for each callback. It stays started, which is the cheapest way to defer it
// again.
#include <ev.h>

#include "deferred.h"

static struct ev_loop *loop;

static void again(struct ev_loop *ours, ev_idle *watcher, int revents) {
    (void)watcher, (void)revents;
    ran++;
    if (is_done()) ev_break(ours, EVBREAK_ALL);
}

static void again_captured(struct ev_loop *ours, ev_idle *watcher, int revents) {
    (void)revents;
    if (add(watcher->data)) ev_break(ours, EVBREAK_ALL);
}

static void turn(void) { ev_run(loop, EVRUN_NOWAIT); }

static void defer_some(void) {
    ev_idle *watchers = malloc(CALLBACKS_A_TURN * sizeof *watchers);
    for (int i = 0; i < CALLBACKS_A_TURN; i++) {
        ev_idle_init(&watchers[i], is_captured ? again_captured : again);
        watchers[i].data = &captured[i];
        ev_idle_start(loop, &watchers[i]);
    }
}

static void run(void) { ev_run(loop, 0); }

int main(int argc, char **argv) {
    read_options(argc, argv);
    loop = ev_loop_new(EVBACKEND_EPOLL);
    if (!loop) fail("ev_loop_new");
    measure();
    return 0;
}
