/* Generator of WebSocket traffic, and an upstream that echoes: as little work for each message as there can be, so that
 * the gateway between them is what is measured.
 *
 *   ws serve PORT SIZE                    echo binary messages of SIZE bytes (below 126)
 *   ws load  PORT SIZE SOCKETS SECONDS    keep one message under way on each socket; print messages a second
 *   ws load  PORT SIZE SOCKETS -SECONDS   open the sockets, print "ready", and keep silent
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The key and its accept are those of RFC 6455, 1.3. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define EVENTS 512

struct conn { int fd, up, have, n; char head[2048]; };
static int size;
static char buffer[65536], frame[256], answers[131072];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void prepare(int fd) {
  int on = 1;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static struct sockaddr_in local(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static void put(int fd, const char *data, int length) {
  if (write(fd, data, length) != length) { perror("write"); exit(1); }
}

static int whole(struct conn *c, const char *data, int length) {
  if (c->n + length >= (int)sizeof c->head) exit(1);
  memcpy(c->head + c->n, data, length);
  c->n += length;
  c->head[c->n] = 0;
  return strstr(c->head, "\r\n\r\n") != NULL;
}

static void echo(struct conn *c, int length) {
  int count, filled = 0;
  if (!c->up) {
    if (!whole(c, buffer, length)) return;
    const char *answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n";
    c->up = 1;
    put(c->fd, answer, strlen(answer));
    return;
  }
  c->have += length;
  count = c->have / (6 + size);
  c->have %= 6 + size;
  for (; count-- && filled < (int)sizeof answers - 2 - size; filled += 2 + size) memcpy(answers + filled, frame, 2 + size);
  if (filled) put(c->fd, answers, filled);
}

static int serve(int port) {
  int on = 1, fd, listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
  struct sockaddr_in address = local(port);
  struct epoll_event event = {.events = EPOLLIN}, events[EVENTS];
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) return perror("listen"), 1;
  prepare(listener);
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  frame[0] = (char)0x82, frame[1] = size;
  for (;;) {
    int found = epoll_wait(poll, events, EVENTS, -1);
    for (int i = 0; i < found; i++) {
      struct conn *c = events[i].data.ptr;
      if (!c) {
        while ((fd = accept(listener, 0, 0)) >= 0) {
          prepare(fd);
          event.data.ptr = c = calloc(1, sizeof *c);
          c->fd = fd;
          epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
        }
        continue;
      }
      int length = read(c->fd, buffer, sizeof buffer);
      if (length > 0) echo(c, length);
      else if (length == 0 || errno != EAGAIN) close(c->fd), free(c);
    }
  }
}

static void open_socket(struct conn *c, int port, int poll) {
  struct sockaddr_in address = local(port);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  const char *handshake = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY "\r\n\r\n";
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(c->fd, (void *)&address, sizeof address)) { perror("connect"); exit(1); }
  put(c->fd, handshake, strlen(handshake));
  for (;;) {
    int length = read(c->fd, buffer, 1);  /* not a byte of what follows the head */
    if (length <= 0) { fprintf(stderr, "no answer to a handshake\n"); exit(1); }
    if (whole(c, buffer, length)) break;
  }
  if (strncmp(c->head, "HTTP/1.1 101", 12)) { fprintf(stderr, "%s", c->head); exit(1); }
  prepare(c->fd);
  epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
}

static int load(int port, int sockets, double seconds) {
  struct conn *all = calloc(sockets, sizeof *all);
  struct epoll_event events[EVENTS];
  int poll = epoll_create1(0);
  for (int i = 0; i < sockets; i++) open_socket(all + i, port, poll);
  if (seconds < 0) { puts("ready"); fflush(stdout); sleep(-seconds); return 0; }
  frame[0] = (char)0x82, frame[1] = (char)(0x80 | size);  /* masked by four zeros */
  for (int i = 0; i < sockets; i++) put(all[i].fd, frame, 6 + size);
  double begun = now(), measured = 0;
  long count = 0;
  for (;;) {
    double time = now();
    if (!measured && time > begun + 1) measured = time, count = 0;  /* a second to warm up */
    if (measured && time > measured + seconds) break;
    int found = epoll_wait(poll, events, EVENTS, 100);
    for (int i = 0; i < found; i++) {
      struct conn *c = events[i].data.ptr;
      int length = read(c->fd, buffer, sizeof buffer);
      if (length <= 0) { fprintf(stderr, "a socket has ended\n"); return 1; }
      c->have += length;
      for (; c->have >= 2 + size; c->have -= 2 + size, count++) put(c->fd, frame, 6 + size);
    }
  }
  printf("%.0f\n", count / (now() - measured));
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  size = atoi(argv[3]);
  if (!strcmp(argv[1], "serve")) return serve(atoi(argv[2]));
  return load(atoi(argv[2]), atoi(argv[4]), atof(argv[5]));
}
