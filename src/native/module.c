/*
 * The table of functions, and the life of one thread's state: made when the thread loads the addon,
 * emptied by a cleanup hook while the environment still works, freed when nothing can call any more.
 */
#include "plinth.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGNMENT_MAX (UINT64_C(1) << 30)

static napi_value plinth_lock(napi_env env, napi_callback_info info) {
  napi_value values[2], result;
  int fd;
  bool exclusive;
  if (call_arguments(env, info, 2, values) == NULL || !read_descriptor(env, values[0], &fd) ||
      !read_boolean(env, values[1], "exclusive", &exclusive))
    return NULL;
  int failed;
  do {
    failed = flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB);
  } while (failed != 0 && errno == EINTR);
  if (failed != 0 && errno != EWOULDBLOCK) {
    throw_system(env, errno, "flock");
    return NULL;
  }
  return napi_get_boolean(env, failed == 0, &result) == napi_ok ? result : NULL;
}

static void free_aligned(napi_env env, void *data, void *length) {
  (void)env;
  (void)munmap(data, (size_t)(uintptr_t)length);
}

/* Anonymous memory rather than the heap: it is zero already, and costs nothing before its use. */
static napi_value plinth_aligned_buffer(napi_env env, napi_callback_info info) {
  napi_value values[2], result;
  uint64_t bytes, alignment;
  State *state = call_arguments(env, info, 2, values);
  if (state == NULL || !read_integer(env, values[0], "bytes", 1, MAPPING_BYTES_MAX, &bytes) ||
      !read_integer(env, values[1], "alignment", 1, ALIGNMENT_MAX, &alignment))
    return NULL;
  if ((alignment & (alignment - 1)) != 0) {
    throw_range(env, "The \"alignment\" argument must be a power of two");
    return NULL;
  }
  const size_t length = (bytes + state->page - 1) & ~(state->page - 1);
  const size_t slack = alignment > state->page ? alignment - state->page : 0;
  uint8_t *base =
    mmap(NULL, length + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) {
    throw_system(env, errno, "mmap");
    return NULL;
  }
  const size_t before = -(uintptr_t)base & (alignment - 1) & ~(state->page - 1);
  if (before > 0) (void)munmap(base, before);
  if (slack > before) (void)munmap(base + before + length, slack - before);
  if (napi_create_external_arraybuffer(env, base + before, bytes, free_aligned,
                                       (void *)(uintptr_t)length, &result) != napi_ok) {
    (void)munmap(base + before, length);
    throw_state(env, "an ArrayBuffer of this length could not be made");
    return NULL;
  }
  return result;
}

static napi_value plinth_fence(napi_env env, napi_callback_info info) {
  (void)env;
  (void)info;
  fence();
  return NULL;
}

/** The environment ends: no JavaScript runs any more, but references still can be released. */
static void empty_state(void *data) {
  State *state = data;
  writers_release(state);
  mappings_release(state);
}

static void free_state(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  free(data);
}

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  State *state = calloc(1, sizeof *state);
  if (state == NULL) {
    throw_state(env, "out of memory");
    return NULL;
  }
  state->env = env;
  state->pagemap = -1;
  state->page = (uint64_t)sysconf(_SC_PAGESIZE);
  const char *wrong = processor_detect(&state->processor);
  if (wrong != NULL) {
    free(state);
    (void)napi_throw_error(env, "ERR_INVALID_ARG_VALUE", wrong);
    return NULL;
  }
  if (napi_set_instance_data(env, state, free_state, NULL) != napi_ok) {
    free(state);
    throw_state(env, "the addon could not be set up");
    return NULL;
  }

  napi_value instruction, hardware, page;
  if (napi_create_string_utf8(env, state->processor.flush_name, NAPI_AUTO_LENGTH, &instruction) !=
        napi_ok ||
      napi_get_boolean(env, state->processor.hardware_checksum, &hardware) != napi_ok ||
      napi_create_double(env, (double)state->page, &page) != napi_ok) {
    throw_state(env, "the addon could not be set up");
    return NULL;
  }
#define FUNCTION(name, function) {name, NULL, function, NULL, NULL, NULL, napi_enumerable, state}
#define VALUE(name, value) {name, NULL, NULL, NULL, NULL, value, napi_enumerable, NULL}
  const napi_property_descriptor properties[] = {
    VALUE("flushInstruction", instruction),
    VALUE("hardwareChecksum", hardware),
    VALUE("pageBytes", page),
    FUNCTION("lock", plinth_lock),
    FUNCTION("allocate", plinth_allocate),
    FUNCTION("punch", plinth_punch),
    FUNCTION("extents", plinth_extents),
    FUNCTION("fileFlags", plinth_file_flags),
    FUNCTION("setFileFlags", plinth_set_file_flags),
    FUNCTION("residentPages", plinth_resident_pages),
    FUNCTION("dropCached", plinth_drop_cached),
    FUNCTION("map", plinth_map),
    FUNCTION("mappingCount", plinth_mapping_count),
    FUNCTION("buffer", plinth_buffer),
    FUNCTION("detach", plinth_detach),
    FUNCTION("unmap", plinth_unmap),
    FUNCTION("flush", plinth_flush),
    FUNCTION("fence", plinth_fence),
    FUNCTION("persistUnits", plinth_persist_units),
    FUNCTION("copyPersist", plinth_copy_persist),
    FUNCTION("zeroPersist", plinth_zero_persist),
    FUNCTION("privatePages", plinth_private_pages),
    FUNCTION("discard", plinth_discard),
    FUNCTION("alignedBuffer", plinth_aligned_buffer),
    FUNCTION("bindCommit", plinth_bind_commit),
    FUNCTION("createWriter", plinth_create_writer),
    FUNCTION("startWrite", plinth_start_write),
    FUNCTION("waitWrite", plinth_wait_write),
    FUNCTION("closeWriter", plinth_close_writer),
  };
  if (napi_define_properties(env, exports, sizeof properties / sizeof properties[0], properties) !=
        napi_ok ||
      napi_add_env_cleanup_hook(env, empty_state, state) != napi_ok) {
    throw_state(env, "the addon could not be set up");
    return NULL;
  }
  return exports;
}
