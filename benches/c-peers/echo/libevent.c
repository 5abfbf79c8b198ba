// libevent: a persistent event for each connection, without bufferevent.
#include <event2/event.h>

#include "echo.h"

typedef struct {
    struct event *event;
    Rest *rest;
} Connection;

static void serve(evutil_socket_t socket, short what, void *own) {
    (void)what;
    Connection *connection = own;
    State before = connection->rest ? WRITES : READS;
    State after = before == READS ? echo(socket, &connection->rest) : write_rest(socket, &connection->rest);
    if (after == before) return;
    struct event_base *base = event_get_base(connection->event);
    checked(event_del(connection->event), "event_del");
    if (after == ENDED) {
        event_free(connection->event);
        close(socket);
        free(connection->rest);
        free(connection);
    } else {
        short wanted = after == READS ? EV_READ : EV_WRITE;
        checked(event_assign(connection->event, base, socket, wanted | EV_PERSIST, serve, connection), "event_assign");
        checked(event_add(connection->event, NULL), "event_add");
    }
}

static void accept_all(evutil_socket_t listener, short what, void *base) {
    (void)what;
    int socket;
    while ((socket = accept_next(listener)) >= 0) {
        Connection *connection = malloc(sizeof *connection);
        *connection = (Connection){event_new(base, socket, EV_READ | EV_PERSIST, serve, connection), NULL};
        if (!connection->event) fail("event_new");
        checked(event_add(connection->event, NULL), "event_add");
    }
}

int main(void) {
    struct event_base *base = event_base_new();
    if (!base) fail("event_base_new");
    struct event *listener = event_new(base, open_listener(), EV_READ | EV_PERSIST, accept_all, base);
    if (!listener) fail("event_new");
    checked(event_add(listener, NULL), "event_add");
    checked(event_base_dispatch(base), "event_base_dispatch");
    return 0;
}
