// libev: an ev_async on each side.
#include <ev.h>

#include "pingpong.h"

static struct ev_loop *near, *far;
static ev_async to_near, to_far;

static void far_woken(struct ev_loop *loop, ev_async *watcher, int revents) {
    (void)watcher, (void)revents;
    if (answer()) ev_break(loop, EVBREAK_ALL);
}

static void near_woken(struct ev_loop *loop, ev_async *watcher, int revents) {
    (void)watcher, (void)revents;
    if (come_back()) ev_break(loop, EVBREAK_ALL);
}

static void wake_far(void) { ev_async_send(far, &to_far); }
static void wake_near(void) { ev_async_send(near, &to_near); }
static void run_far(void) { ev_run(far, 0); }
static void run_near(void) { ev_run(near, 0); }

int main(int argc, char **argv) {
    read_options(argc, argv);
    near = ev_loop_new(EVBACKEND_EPOLL);
    far = ev_loop_new(EVBACKEND_EPOLL);
    if (!near || !far) fail("ev_loop_new");
    ev_async_init(&to_near, near_woken);
    ev_async_init(&to_far, far_woken);
    ev_async_start(near, &to_near);
    ev_async_start(far, &to_far);
    measure_pingpong();
    return 0;
}
