// libev: the same vector under a mutex, and an ev_async, which is sent if the vector was empty.
#include <ev.h>

#include "spike.h"

static struct ev_loop *loop;
static ev_async wake_up;

static void woken(struct ev_loop *ours, ev_async *watcher, int revents) {
    (void)watcher, (void)revents;
    run_pushed();
    if (is_done()) ev_break(ours, EVBREAK_ALL);
}

static void hand_over(uint64_t value) {
    if (push(value)) ev_async_send(loop, &wake_up);
}

static void run(void) { ev_run(loop, 0); }

int main(int argc, char **argv) {
    read_options(argc, argv);
    loop = ev_loop_new(EVBACKEND_EPOLL);
    if (!loop) fail("ev_loop_new");
    ev_async_init(&wake_up, woken);
    ev_async_start(loop, &wake_up);
    measure_spike(run, NULL);
    return 0;
}
