// W5, echo, without the loop: a server on 127.0.0.1 that sends back the bytes that it reads, until
// it is killed.
// Prints {"port": PORT} when it listens.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "../common.h"

enum { BACKLOG = 4096 };

// The read buffer of all connections.
static char buffer[65536];

static int open_listener(void) {
    raise_open_files_limit();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = checked(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    checked(bind(listener, (struct sockaddr *)&address, length), "bind");
    checked(listen(listener, BACKLOG), "listen");
    checked(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void disable_nagle(int socket) {
    int yes = 1;
    checked(setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes), "setsockopt");
}

// Returns the next connection, or -1 if none is waiting.
static int accept_next(int listener) {
    for (;;) {
        int socket = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (socket >= 0) {
            disable_nagle(socket);
            return socket;
        }
        if (errno == EAGAIN) return -1;
        if (errno != ECONNABORTED && errno != EINTR) fail("accept4");
    }
}

// The bytes that a socket did not accept at once.
typedef struct {
    size_t length, written;
    char bytes[];
} Rest;

// The event that a connection waits for.
typedef enum { ENDED, READS, WRITES } State;

static int is_for_later(void) { return errno == EAGAIN || errno == EINTR; }

// Reads once and writes once. The bytes that the socket does not accept are kept at `rest`.
static State echo(int socket, Rest **rest) {
    ssize_t length = read(socket, buffer, sizeof buffer);
    if (length <= 0) return length < 0 && is_for_later() ? READS : ENDED;
    ssize_t written = write(socket, buffer, length);
    if (written == length) return READS;
    if (written < 0) {
        if (!is_for_later()) return ENDED;
        written = 0;
    }
    *rest = malloc(sizeof **rest + length - written);
    **rest = (Rest){length - written, 0};
    memcpy((*rest)->bytes, buffer + written, length - written);
    return WRITES;
}

static State write_rest(int socket, Rest **rest) {
    ssize_t written = write(socket, (*rest)->bytes + (*rest)->written, (*rest)->length - (*rest)->written);
    if (written < 0) return is_for_later() ? WRITES : ENDED;
    (*rest)->written += written;
    if ((*rest)->written < (*rest)->length) return WRITES;
    free(*rest);
    *rest = NULL;
    return READS;
}
