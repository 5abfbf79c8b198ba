// libev: an ev_io for each connection.
#include <ev.h>

#include "echo.h"

typedef struct {
    ev_io watcher;
    Rest *rest;
} Connection;

static void serve(struct ev_loop *loop, ev_io *watcher, int revents) {
    (void)revents;
    Connection *connection = (Connection *)watcher;
    State before = connection->rest ? WRITES : READS;
    State after = before == READS ? echo(watcher->fd, &connection->rest) : write_rest(watcher->fd, &connection->rest);
    if (after == before) return;
    ev_io_stop(loop, watcher);
    if (after == ENDED) {
        close(watcher->fd);
        free(connection->rest);
        free(connection);
    } else {
        ev_io_modify(watcher, after == READS ? EV_READ : EV_WRITE);
        ev_io_start(loop, watcher);
    }
}

static void accept_all(struct ev_loop *loop, ev_io *watcher, int revents) {
    (void)revents;
    int socket;
    while ((socket = accept_next(watcher->fd)) >= 0) {
        Connection *connection = malloc(sizeof *connection);
        connection->rest = NULL;
        ev_io_init(&connection->watcher, serve, socket, EV_READ);
        ev_io_start(loop, &connection->watcher);
    }
}

int main(void) {
    struct ev_loop *loop = ev_loop_new(EVBACKEND_EPOLL);
    if (!loop) fail("ev_loop_new");
    ev_io listener;
    ev_io_init(&listener, accept_all, open_listener(), EV_READ);
    ev_io_start(loop, &listener);
    ev_run(loop, 0);
    return 0;
}
