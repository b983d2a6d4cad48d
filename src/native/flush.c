/*
 * Write-back of cache lines, and copies that end in memory rather than in a cache. Which
 * instruction does it is asked from the processor, never assumed: the addon is compiled for the
 * oldest of its kind.
 */
#include "plinth.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <emmintrin.h>
#else
#include <sys/auxv.h>
#endif

typedef struct {
  const char *setting;
  const char *name;
  Flush flush;
  bool supported;
} Choice;

/** The first supported choice, unless PLINTH_FLUSH names another one. */
static const char *choose(Choice *choices, size_t count, Processor *out) {
  const char *setting = getenv("PLINTH_FLUSH");
  if (setting != NULL && setting[0] == '\0') setting = NULL;
  for (size_t i = 0; i < count; i++) {
    if (setting != NULL ? strcmp(setting, choices[i].setting) != 0 : !choices[i].supported) continue;
    if (!choices[i].supported) return "PLINTH_FLUSH names an instruction this processor lacks";
    out->flush = choices[i].flush;
    out->flush_name = choices[i].name;
    return NULL;
  }
  return setting != NULL ? "PLINTH_FLUSH names no instruction that writes a line back"
                         : "this processor has no instruction that writes a line back";
}

#if defined(__x86_64__)

const char *processor_detect(Processor *out) {
  unsigned a, b = 0, c, d = 0, leaf1_b = 0;
  bool clflush = __get_cpuid(1, &a, &leaf1_b, &c, &d) && (d & (1u << 19)) != 0;
  /* In units of eight bytes. 64 on everything so far; a larger line would only be flushed twice. */
  size_t line = clflush ? ((leaf1_b >> 8) & 0xff) * 8 : 64;
  out->line = line == 0 || line > 64 ? 64 : line;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) b = 0;
  Choice choices[] = {
    {"clwb", "clwb", FLUSH_CLWB, (b & (1u << 24)) != 0},
    {"clflushopt", "clflushopt", FLUSH_CLFLUSHOPT, (b & (1u << 23)) != 0},
    {"clflush", "clflush", FLUSH_CLFLUSH, clflush},
    /* Last, so that it is taken only when asked for. */
    {"none", "none", FLUSH_NONE, true},
  };
  checksum_detect(out);
  return choose(choices, 4, out);
}

#define WRITE_BACK_LINES(instruction)                                          \
  do {                                                                         \
    for (; line < end; line += step)                                           \
      __asm__ volatile(instruction " %0" : "+m"(*(volatile uint8_t *)line)); \
  } while (0)

void write_back(const Processor *processor, const uint8_t *at, size_t length) {
  if (length == 0) return;
  const uintptr_t step = processor->line;
  uintptr_t line = (uintptr_t)at & ~(step - 1);
  const uintptr_t end = (uintptr_t)at + length;
  switch (processor->flush) {
    case FLUSH_CLWB:
      WRITE_BACK_LINES("clwb");
      break;
    case FLUSH_CLFLUSHOPT:
      WRITE_BACK_LINES("clflushopt");
      break;
    case FLUSH_CLFLUSH:
      WRITE_BACK_LINES("clflush");
      break;
    case FLUSH_NONE:
      break;
  }
}

/*
 * From here on non-temporal stores pay. Copying 1 MiB to lines that are not cached, on a Zen 4 in
 * a virtual machine: memcpy and clwb 10.4 GB/s, the way below 19.5 (memcpy alone, durable nowhere,
 * 16.9). At 16 KiB it is 14.7 against 10.3; below that, or when the target is already in the
 * second-level cache, memcpy wins. Streams of 16, 32 and 64 bytes run equally fast, so the
 * narrowest is used and nothing depends on AVX. Blocks of 4 to 64 KiB, each stored and then
 * written back while hot, are slower (12.3 to 17.0): each needs a fence of its own.
 */
#define STREAM_BYTES_MIN 16384

/* The fence drains the combining buffers into the cache or to memory. Without it a write-back
   could pass a store to its own line; that clwb is ordered after a non-temporal store to the same
   line is not promised by every maker. */
static void stream_write_back(const Processor *processor, uint8_t *to, size_t length) {
  fence();
  write_back(processor, to, length);
}

void copy_write_back(const Processor *processor, uint8_t *to, const uint8_t *from, size_t length) {
  /* A source in the same mapping may overlap. */
  bool apart = to + length <= from || from + length <= to;
  if (length < STREAM_BYTES_MIN || !apart) {
    if (length > 0) memmove(to, from, length);
    write_back(processor, to, length);
    return;
  }
  /* Head and tail share their lines with neighbours; only whole lines are streamed. */
  size_t head = -(uintptr_t)to & 63;
  size_t body = (length - head) & ~(size_t)63;
  memcpy(to, from, head);
  for (size_t i = head; i < head + body; i += 64) {
    const __m128i *source = (const __m128i *)(from + i);
    __m128i *target = (__m128i *)(to + i);
    __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
    __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
  }
  memcpy(to + head + body, from + head + body, length - head - body);
  stream_write_back(processor, to, length);
}

void zero_write_back(const Processor *processor, uint8_t *to, size_t length) {
  if (length < STREAM_BYTES_MIN) {
    memset(to, 0, length);
    write_back(processor, to, length);
    return;
  }
  size_t head = -(uintptr_t)to & 63;
  size_t body = (length - head) & ~(size_t)63;
  memset(to, 0, head);
  const __m128i zero = _mm_setzero_si128();
  for (size_t i = head; i < head + body; i += 16) _mm_stream_si128((__m128i *)(to + i), zero);
  memset(to + head + body, 0, length - head - body);
  stream_write_back(processor, to, length);
}

#else

/* From the kernel's interface; older C libraries do not name it. */
#define HWCAP_DC_CVAP (1ul << 16)

const char *processor_detect(Processor *out) {
  unsigned long capabilities = getauxval(AT_HWCAP);
  uint64_t cache_type;
  __asm__("mrs %0, ctr_el0" : "=r"(cache_type));
  out->line = (size_t)4 << ((cache_type >> 16) & 15);
  Choice choices[] = {
    {"cvap", "dc cvap", FLUSH_CVAP, (capabilities & HWCAP_DC_CVAP) != 0},
    {"cvac", "dc cvac", FLUSH_CVAC, true},
    {"none", "none", FLUSH_NONE, true},
  };
  checksum_detect(out);
  return choose(choices, 3, out);
}

void write_back(const Processor *processor, const uint8_t *at, size_t length) {
  if (length == 0) return;
  const uintptr_t step = processor->line;
  uintptr_t line = (uintptr_t)at & ~(step - 1);
  const uintptr_t end = (uintptr_t)at + length;
  switch (processor->flush) {
    case FLUSH_CVAP:
      /* `dc cvap`, spelled so that an assembler for plain armv8-a takes it. */
      for (; line < end; line += step)
        __asm__ volatile("sys #3, c7, c12, #1, %0" : : "r"(line) : "memory");
      break;
    case FLUSH_CVAC:
      for (; line < end; line += step) __asm__ volatile("dc cvac, %0" : : "r"(line) : "memory");
      break;
    case FLUSH_NONE:
      break;
  }
}

void copy_write_back(const Processor *processor, uint8_t *to, const uint8_t *from, size_t length) {
  if (length > 0) memmove(to, from, length);
  write_back(processor, to, length);
}

void zero_write_back(const Processor *processor, uint8_t *to, size_t length) {
  memset(to, 0, length);
  write_back(processor, to, length);
}

#endif
