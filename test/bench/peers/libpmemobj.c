/*
 * The work of the peer benchmark for libpmemobj. One process, told by lines on its standard input
 * which case to run how often; it answers each with the nanoseconds that one operation took.
 *
 *   libpmemobj FOLDER        then lines "case operations", answered by "nanoseconds"
 */
#include <libpmemobj.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POOL_BYTES ((size_t)1 << 30)
#define SLOTS 1024
#define LIVE 100000
#define BURST 60000
#define AREA_BYTES (1 << 20)

typedef struct {
  PMEMoid link;
  PMEMoid area;
  PMEMoid slots[SLOTS];
} Root;

static PMEMobjpool *pool;
static Root *root;
static PMEMoid burst[BURST];
static PMEMoid live[LIVE];
static char bytes[1024];
static uint32_t seed = 1;
static uint64_t done;

static uint32_t next_random(void) {
  seed = seed * 1664525u + 1013904223u;
  return seed >> 8;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void demand(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "%s: %s\n", what, pmemobj_errormsg());
  exit(1);
}

static size_t random_size(void) {
  return 64 + next_random() % (1024 - 64 + 1);
}

static void allocate_burst(long n) {
  for (long i = 0; i < n; i++) demand(!pmemobj_alloc(pool, &burst[i], 64, 0, NULL, NULL), "alloc");
}

static void free_burst(long n) {
  for (long i = 0; i < n; i++) pmemobj_free(&burst[i]);
}

static void link_free(long n) {
  for (long i = 0; i < n; i++) {
    demand(!pmemobj_alloc(pool, &root->link, 64, 0, NULL, NULL), "alloc");
    pmemobj_free(&root->link);
  }
}

static void transaction(long n) {
  char *area = pmemobj_direct(root->area);
  for (long i = 0; i < n; i++) {
    char *at = area + done++ * 64 % AREA_BYTES;
    TX_BEGIN(pool) {
      pmemobj_tx_add_range_direct(at, 64);
      memcpy(at, bytes, 64);
    }
    TX_ONABORT { demand(0, "transaction"); }
    TX_END
  }
}

static void put(long n) {
  for (long i = 0; i < n; i++) {
    PMEMoid *slot = &root->slots[done++ * 7 % SLOTS];
    TX_BEGIN(pool) {
      PMEMoid oid = pmemobj_tx_alloc(116, 0);
      memcpy(pmemobj_direct(oid), bytes, 116);
      if (!OID_IS_NULL(*slot)) pmemobj_tx_free(*slot);
      pmemobj_tx_add_range_direct(slot, sizeof *slot);
      *slot = oid;
    }
    TX_ONABORT { demand(0, "transaction"); }
    TX_END
  }
}

static void random_free_allocate(long n) {
  if (OID_IS_NULL(live[0])) {
    for (long i = 0; i < LIVE; i++)
      demand(!pmemobj_alloc(pool, &live[i], random_size(), 0, NULL, NULL), "alloc");
  }
  for (long i = 0; i < n; i++) {
    PMEMoid *oid = &live[next_random() % LIVE];
    pmemobj_free(oid);
    demand(!pmemobj_alloc(pool, oid, random_size(), 0, NULL, NULL), "alloc");
  }
}

/** Pool bytes for each byte of 64-byte objects, times 1000: a pool filled to the last. */
static double bytes_per_byte(const char *folder) {
  char path[4096];
  snprintf(path, sizeof path, "%s/full", folder);
  size_t size = (size_t)128 << 20;
  PMEMobjpool *full = pmemobj_create(path, "full", size, 0600);
  demand(full != NULL, "create");
  double objects = 0;
  PMEMoid oid;
  while (!pmemobj_alloc(full, &oid, 64, 0, NULL, NULL)) objects++;
  pmemobj_close(full);
  remove(path);
  return (double)size / (objects * 64) * 1000;
}

/** Opening a pool with a million objects, and the first allocation. */
static double open_million(const char *folder, long n) {
  char path[4096];
  snprintf(path, sizeof path, "%s/million", folder);
  PMEMobjpool *million = pmemobj_open(path, "million");
  PMEMoid oid;
  if (million == NULL) {
    million = pmemobj_create(path, "million", (size_t)512 << 20, 0600);
    demand(million != NULL, "create");
    for (long i = 0; i < 1000000; i++)
      demand(!pmemobj_alloc(million, &oid, 64, 0, NULL, NULL), "alloc");
  }
  pmemobj_close(million);
  double sum = 0;
  for (long i = 0; i < n; i++) {
    double started = now();
    million = pmemobj_open(path, "million");
    demand(million != NULL, "open");
    demand(!pmemobj_alloc(million, &oid, 64, 0, NULL, NULL), "alloc");
    sum += now() - started;
    pmemobj_free(&oid);
    pmemobj_close(million);
  }
  return sum;
}

int main(int argc, char **argv) {
  char path[4096], name[64];
  long n;
  demand(argc == 2, "arguments");
  snprintf(path, sizeof path, "%s/pool", argv[1]);
  pool = pmemobj_create(path, "peer", POOL_BYTES, 0600);
  demand(pool != NULL, "create");
  root = pmemobj_direct(pmemobj_root(pool, sizeof(Root)));
  demand(!pmemobj_zalloc(pool, &root->area, AREA_BYTES, 0), "alloc");
  memset(bytes, 7, sizeof bytes);
  while (scanf("%63s %ld", name, &n) == 2) {
    double extra = -1;
    double started = now();
    if (!strcmp(name, "alloc-64B")) allocate_burst(n);
    else if (!strcmp(name, "free-64B")) free_burst(n);
    else if (!strcmp(name, "alloc-link-free")) link_free(n);
    else if (!strcmp(name, "tx-64B")) transaction(n);
    else if (!strcmp(name, "tx-put-116B")) put(n);
    else if (!strcmp(name, "random-free-alloc")) random_free_allocate(n);
    else if (!strcmp(name, "bytes-per-byte-64B")) extra = bytes_per_byte(argv[1]) * (double)n;
    else if (!strcmp(name, "open-1M")) extra = open_million(argv[1], n);
    else demand(0, name);
    double elapsed = extra < 0 ? now() - started : extra;
    printf("%.3f\n", elapsed / (double)n);
    fflush(stdout);
  }
  pmemobj_close(pool);
  return 0;
}
