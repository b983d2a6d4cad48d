/*
 * Writes off the event loop: pwrite of everything, then fdatasync when asked for.
 *
 *   startWrite   idle    -> queued     work of the libuv pool; the bytes are held
 *   run          queued  -> running    a pool thread, or `waitWrite` when none has begun yet
 *   run          running -> ended      the result stands
 *   complete     ended   -> delivered  `done` is called, on the event loop, in the order of starts
 *
 * A next write may start once the last one has ended, delivered or not. Only `stage` and `result`
 * are seen by two threads; the mutex guards them.
 */
#include "plinth.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

typedef enum { QUEUED, RUNNING, ENDED } Stage;

typedef struct Write {
  Writer *writer;
  /** Started later, not yet delivered. */
  struct Write *next;
  napi_async_work work;
  napi_ref bytes_reference;
  napi_ref done_reference;
  const uint8_t *bytes;
  uint64_t length;
  uint64_t position;
  int fd;
  bool sync;
  bool delivered;
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  Stage stage;
  int result;
} Write;

/** Lives until it is closed and its last write is delivered. */
struct Writer {
  int fd;
  uint64_t uses;
  Write *first;
  Write *last;
};

static void drop_use(Writer *writer) {
  if (--writer->uses == 0) free(writer);
}

static int write_all(const Write *write) {
  uint64_t written = 0;
  while (written < write->length) {
    ssize_t got = pwrite(write->fd, write->bytes + written, write->length - written,
                         (off_t)(write->position + written));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) return EIO;
    written += (uint64_t)got;
  }
  if (!write->sync) return 0;
  /* Not repeated after EINTR: an fdatasync that failed may have lost its pages, and a second one
     would report success. */
  return fdatasync(write->fd) == 0 ? 0 : errno;
}

/** Does the write unless somebody else does, then waits for its end. Any thread. */
static int run(Write *write) {
  pthread_mutex_lock(&write->mutex);
  if (write->stage == QUEUED) {
    write->stage = RUNNING;
    pthread_mutex_unlock(&write->mutex);
    int result = write_all(write);
    pthread_mutex_lock(&write->mutex);
    write->result = result;
    write->stage = ENDED;
    pthread_cond_broadcast(&write->changed);
  }
  while (write->stage != ENDED) pthread_cond_wait(&write->changed, &write->mutex);
  int result = write->result;
  pthread_mutex_unlock(&write->mutex);
  return result;
}

static bool has_ended(Write *write) {
  pthread_mutex_lock(&write->mutex);
  bool ended = write->stage == ENDED;
  pthread_mutex_unlock(&write->mutex);
  return ended;
}

static void execute(napi_env env, void *data) {
  (void)env;
  (void)run(data);
}

/** Calls `done` once. The thread may be ending, and then no JavaScript runs. */
static void deliver(napi_env env, Write *write) {
  napi_value done, receiver, argument, thrown;
  write->delivered = true;
  bool called = napi_get_reference_value(env, write->done_reference, &done) == napi_ok &&
                napi_get_undefined(env, &receiver) == napi_ok &&
                napi_create_int32(env, run(write), &argument) == napi_ok;
  if (called && napi_call_function(env, receiver, done, 1, &argument, NULL) != napi_ok) {
    bool pending = false;
    /* Others may have to be delivered after this one, so it is raised here. */
    if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
        napi_get_and_clear_last_exception(env, &thrown) == napi_ok)
      (void)napi_fatal_exception(env, thrown);
  }
  (void)napi_delete_reference(env, write->bytes_reference);
  (void)napi_delete_reference(env, write->done_reference);
}

static void free_write(Write *write) {
  pthread_cond_destroy(&write->changed);
  pthread_mutex_destroy(&write->mutex);
  free(write);
}

static void complete(napi_env env, napi_status status, void *data) {
  (void)status;
  Write *write = data;
  Writer *writer = write->writer;
  /* The pool may complete two writes of one writer out of order when `waitWrite` did the first.
     All before this one have ended, as this one could not start otherwise. */
  while (!write->delivered) {
    Write *next = writer->first;
    writer->first = next->next;
    if (writer->first == NULL) writer->last = NULL;
    deliver(env, next);
  }
  (void)napi_delete_async_work(env, write->work);
  free_write(write);
  drop_use(writer);
}

static bool read_writer(napi_env env, State *state, napi_value value, uint32_t *index) {
  uint64_t number;
  if (!read_integer(env, value, "writer", 0, UINT32_MAX, &number)) return false;
  if (number < state->writer_count && state->writers[number] != NULL) {
    *index = (uint32_t)number;
    return true;
  }
  throw_range(env, "The \"writer\" argument must name an open writer of this thread; %llu does not",
              (unsigned long long)number);
  return false;
}

napi_value plinth_create_writer(napi_env env, napi_callback_info info) {
  napi_value value, result;
  State *state = call_arguments(env, info, 1, &value);
  int fd;
  if (state == NULL || !read_descriptor(env, value, &fd)) return NULL;
  uint32_t index = 0;
  while (index < state->writer_count && state->writers[index] != NULL) index++;
  if (index == state->writer_count) {
    Writer **grown = realloc(state->writers, ((size_t)index + 1) * sizeof *grown);
    if (grown == NULL) {
      throw_system(env, ENOMEM, "realloc");
      return NULL;
    }
    grown[index] = NULL;
    state->writers = grown;
    state->writer_count = index + 1;
  }
  Writer *writer = calloc(1, sizeof *writer);
  if (writer == NULL || napi_create_uint32(env, index, &result) != napi_ok) {
    free(writer);
    throw_system(env, ENOMEM, "calloc");
    return NULL;
  }
  writer->fd = fd;
  writer->uses = 1;
  state->writers[index] = writer;
  return result;
}

napi_value plinth_start_write(napi_env env, napi_callback_info info) {
  napi_value values[7], name;
  State *state = call_arguments(env, info, 7, values);
  uint32_t index;
  uint8_t *bytes;
  size_t size;
  uint64_t offset, length, position;
  bool sync;
  napi_valuetype type;
  if (state == NULL || !read_writer(env, state, values[0], &index) ||
      !read_bytes(env, values[1], "bytes", &bytes, &size) ||
      !read_integer(env, values[2], "offset", 0, size, &offset) ||
      !read_integer(env, values[3], "length", 0, size - offset, &length) ||
      !read_integer(env, values[4], "position", 0, POSITION_MAX - length, &position) ||
      !read_boolean(env, values[5], "sync", &sync))
    return NULL;
  if (napi_typeof(env, values[6], &type) != napi_ok || type != napi_function) {
    throw_type(env, "The \"done\" argument must be a function");
    return NULL;
  }
  Writer *writer = state->writers[index];
  if (writer->last != NULL && !has_ended(writer->last)) {
    throw_state(env, "a write is under way");
    return NULL;
  }

  Write *write = calloc(1, sizeof *write);
  if (write == NULL) {
    throw_system(env, ENOMEM, "calloc");
    return NULL;
  }
  pthread_mutex_init(&write->mutex, NULL);
  pthread_cond_init(&write->changed, NULL);
  write->writer = writer;
  write->bytes = bytes + offset;
  write->length = length;
  write->position = position;
  write->fd = writer->fd;
  write->sync = sync;
  if (napi_create_reference(env, values[1], 1, &write->bytes_reference) != napi_ok ||
      napi_create_reference(env, values[6], 1, &write->done_reference) != napi_ok ||
      napi_create_string_utf8(env, "plinth.write", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_async_work(env, NULL, name, execute, complete, write, &write->work) != napi_ok ||
      napi_queue_async_work(env, write->work) != napi_ok) {
    if (write->work != NULL) (void)napi_delete_async_work(env, write->work);
    if (write->done_reference != NULL) (void)napi_delete_reference(env, write->done_reference);
    if (write->bytes_reference != NULL) (void)napi_delete_reference(env, write->bytes_reference);
    free_write(write);
    throw_state(env, "the write could not be queued");
    return NULL;
  }
  writer->uses++;
  if (writer->last != NULL) {
    writer->last->next = write;
  } else {
    writer->first = write;
  }
  writer->last = write;
  return NULL;
}

napi_value plinth_wait_write(napi_env env, napi_callback_info info) {
  napi_value value, result;
  State *state = call_arguments(env, info, 1, &value);
  uint32_t index;
  if (state == NULL || !read_writer(env, state, value, &index)) return NULL;
  Write *last = state->writers[index]->last;
  if (napi_create_int32(env, last == NULL ? 0 : run(last), &result) != napi_ok) return NULL;
  return result;
}

/** Waits, then gives up the table's use of the writer; writes not yet delivered keep theirs. */
static void close_writer(State *state, uint32_t index) {
  Writer *writer = state->writers[index];
  state->writers[index] = NULL;
  if (writer->last != NULL) (void)run(writer->last);
  drop_use(writer);
}

napi_value plinth_close_writer(napi_env env, napi_callback_info info) {
  napi_value value;
  State *state = call_arguments(env, info, 1, &value);
  uint32_t index;
  if (state != NULL && read_writer(env, state, value, &index)) close_writer(state, index);
  return NULL;
}

void writers_release(State *state) {
  for (uint32_t i = 0; i < state->writer_count; i++) {
    if (state->writers[i] != NULL) close_writer(state, i);
  }
  free(state->writers);
  state->writers = NULL;
  state->writer_count = 0;
}
