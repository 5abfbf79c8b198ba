// libevent: an event for each callback, which makes itself active again.
#include <event2/event.h>

#include "deferred.h"

static struct event_base *base;

typedef struct {
    struct event *event;
    Captured captured;
} Callback;

static Callback callbacks[CALLBACKS_A_TURN];

static void again_unless(int was_last, const Callback *own) {
    if (was_last)
        event_base_loopbreak(base);
    else
        event_active(own->event, EV_TIMEOUT, 0);
}

static void again(evutil_socket_t none, short what, void *own) {
    (void)none, (void)what;
    ran++;
    again_unless(is_done(), own);
}

static void again_captured(evutil_socket_t none, short what, void *own) {
    (void)none, (void)what;
    again_unless(add(&((Callback *)own)->captured), own);
}

static void turn(void) { checked(event_base_loop(base, EVLOOP_NONBLOCK | EVLOOP_NO_EXIT_ON_EMPTY), "event_base_loop"); }

static void defer_some(void) {
    for (int i = 0; i < CALLBACKS_A_TURN; i++) {
        Callback *own = &callbacks[i];
        own->captured = captured[i];
        own->event = event_new(base, -1, EV_PERSIST, is_captured ? again_captured : again, own);
        if (!own->event) fail("event_new");
        event_active(own->event, EV_TIMEOUT, 0);
    }
}

static void run(void) { checked(event_base_dispatch(base), "event_base_dispatch"); }

// A callback that becomes active in a callback would run in the same turn, for ever, if the number
// of callbacks in a turn had no limit.
static struct event_base *open_base(void) {
    struct event_config *config = event_config_new();
    if (!config) fail("event_config_new");
    if (event_config_set_max_dispatch_interval(config, NULL, CALLBACKS_A_TURN, 0)) fail("max_dispatch_interval");
    struct event_base *opened = event_base_new_with_config(config);
    if (!opened) fail("event_base_new_with_config");
    event_config_free(config);
    return opened;
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    base = open_base();
    measure();
    return 0;
}
