/* Where a file's bytes are on the device below its filesystem. */
#include "plinth.h"

#include <errno.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define EXTENTS_AT_ONCE 256
/* Of these the physical place is not known, or not where a load would go. */
#define EXTENTS_PLACELESS                                                                    \
  (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_ENCODED |                 \
   FIEMAP_EXTENT_DATA_ENCRYPTED | FIEMAP_EXTENT_NOT_ALIGNED)

typedef struct {
  double *triples;
  size_t count, room;
} Extents;

static bool add_extent(Extents *extents, const struct fiemap_extent *extent) {
  if (extents->count == extents->room) {
    size_t room = extents->room == 0 ? EXTENTS_AT_ONCE : extents->room * 2;
    double *grown = realloc(extents->triples, room * 3 * sizeof *grown);
    if (grown == NULL) return false;
    extents->triples = grown;
    extents->room = room;
  }
  double *triple = extents->triples + extents->count++ * 3;
  triple[0] = (double)extent->fe_logical;
  triple[1] = (double)extent->fe_physical;
  triple[2] = (double)extent->fe_length;
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
      if (extent->fe_flags & EXTENTS_PLACELESS) error = EOPNOTSUPP;
      else if (!add_extent(extents, extent)) error = ENOMEM;
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
  const size_t bytes = extents.count * 3 * sizeof *extents.triples;
  if (error != 0) {
    throw_system(env, error, "ioctl");
    result = NULL;
  } else if (napi_create_arraybuffer(env, bytes, &data, &buffer) != napi_ok ||
             napi_create_typedarray(env, napi_float64_array, extents.count * 3, buffer, 0, &result) !=
               napi_ok) {
    throw_state(env, "an array of the extents could not be made");
    result = NULL;
  } else if (bytes > 0) {
    memcpy(data, extents.triples, bytes);
  }
  free(extents.triples);
  return result;
}
