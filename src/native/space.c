/* The space of a file: taken, given back, where it is on the device below, and the flags it has. */
#include "plinth.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define EXTENTS_AT_ONCE 256
#define EXTENT_WORDS 4

typedef struct {
  double *words;
  size_t count, room;
} Extents;

static bool add_extent(Extents *extents, const struct fiemap_extent *extent) {
  if (extents->count == extents->room) {
    size_t room = extents->room == 0 ? EXTENTS_AT_ONCE : extents->room * 2;
    double *grown = realloc(extents->words, room * EXTENT_WORDS * sizeof *grown);
    if (grown == NULL) return false;
    extents->words = grown;
    extents->room = room;
  }
  double *words = extents->words + extents->count++ * EXTENT_WORDS;
  words[0] = (double)extent->fe_logical;
  words[1] = (double)extent->fe_physical;
  words[2] = (double)extent->fe_length;
  words[3] = extent->fe_flags;
  return true;
}

/** All extents of a file; 0 or an errno. */
static int read_extents(int fd, Extents *extents) {
  struct fiemap *map =
    malloc(sizeof *map + EXTENTS_AT_ONCE * sizeof(struct fiemap_extent));
  if (map == NULL) return ENOMEM;
  int error = 0;
  bool last = false;
  for (uint64_t from = 0; !last && error == 0;) {
    memset(map, 0, sizeof *map);
    map->fm_start = from;
    map->fm_length = FIEMAP_MAX_OFFSET - from;
    map->fm_flags = FIEMAP_FLAG_SYNC;
    map->fm_extent_count = EXTENTS_AT_ONCE;
    if (ioctl(fd, FS_IOC_FIEMAP, map) != 0) {
      error = errno;
      break;
    }
    last = map->fm_mapped_extents == 0;
    for (uint32_t i = 0; i < map->fm_mapped_extents && error == 0; i++) {
      const struct fiemap_extent *extent = &map->fm_extents[i];
      if (!add_extent(extents, extent)) error = ENOMEM;
      from = extent->fe_logical + extent->fe_length;
      if (extent->fe_flags & FIEMAP_EXTENT_LAST) last = true;
    }
  }
  free(map);
  return error;
}

napi_value plinth_extents(napi_env env, napi_callback_info info) {
  napi_value value, buffer, result;
  int fd;
  if (call_arguments(env, info, 1, &value) == NULL || !read_descriptor(env, value, &fd)) return NULL;
  Extents extents = {0};
  int error = read_extents(fd, &extents);
  void *data;
  const size_t bytes = extents.count * EXTENT_WORDS * sizeof *extents.words;
  if (error != 0) {
    throw_system(env, error, "ioctl");
    result = NULL;
  } else if (napi_create_arraybuffer(env, bytes, &data, &buffer) != napi_ok ||
             napi_create_typedarray(env, napi_float64_array, extents.count * EXTENT_WORDS, buffer, 0, &result) !=
               napi_ok) {
    throw_state(env, "an array of the extents could not be made");
    result = NULL;
  } else if (bytes > 0) {
    memcpy(data, extents.words, bytes);
  }
  free(extents.words);
  return result;
}

/** fallocate(2), again where a signal came between. */
static napi_value change_space(napi_env env, napi_callback_info info, int mode) {
  napi_value values[3];
  int fd;
  uint64_t offset, length;
  if (call_arguments(env, info, 3, values) == NULL || !read_descriptor(env, values[0], &fd) ||
      !read_position(env, values[1], values[2], 1, POSITION_MAX, &offset, &length))
    return NULL;
  int failed;
  do {
    failed = fallocate(fd, mode, (off_t)offset, (off_t)length);
  } while (failed != 0 && errno == EINTR);
  if (failed != 0) throw_system(env, errno, "fallocate");
  return NULL;
}

napi_value plinth_allocate(napi_env env, napi_callback_info info) {
  return change_space(env, info, 0);
}

napi_value plinth_punch(napi_env env, napi_callback_info info) {
  return change_space(env, info, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

napi_value plinth_file_flags(napi_env env, napi_callback_info info) {
  napi_value value, result;
  int fd;
  /* The kernel reads and writes an int, whatever the number of the call says. */
  unsigned int flags = 0;
  if (call_arguments(env, info, 1, &value) == NULL || !read_descriptor(env, value, &fd)) return NULL;
  if (ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0) {
    throw_system(env, errno, "ioctl");
    return NULL;
  }
  return napi_create_uint32(env, flags, &result) == napi_ok ? result : NULL;
}

napi_value plinth_set_file_flags(napi_env env, napi_callback_info info) {
  napi_value values[2];
  int fd;
  uint64_t flags;
  if (call_arguments(env, info, 2, values) == NULL || !read_descriptor(env, values[0], &fd) ||
      !read_integer(env, values[1], "flags", 0, UINT32_MAX, &flags))
    return NULL;
  const unsigned int word = (unsigned int)flags;
  if (ioctl(fd, FS_IOC_SETFLAGS, &word) != 0) throw_system(env, errno, "ioctl");
  return NULL;
}
