/* SPDX-License-Identifier: MIT
 *
 * Loaded before the C library (LD_PRELOAD) it lets chosen allocations of one shared object fail: those whose caller lies in it.
 * One thread arms it and makes them. glibc only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

static uintptr_t object_begin, object_end; /* the code of the shared object; both 0: not armed */
static long seen, fail_from, fail_count;   /* fail_count 0: all from fail_from on */

static int find_object(struct dl_phdr_info* info, size_t size, void* name) {
  (void)size;
  if (strstr(info->dlpi_name, name) == NULL) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)* const part = &info->dlpi_phdr[i];
    if (part->p_type != PT_LOAD || (part->p_flags & PF_X) == 0) continue;
    object_begin = info->dlpi_addr + part->p_vaddr;
    object_end = object_begin + part->p_memsz;
  }
  return 1;
}

/* The object whose path contains `name`: of its allocations from now on, counted from 0, those in [from, from + count). */
void fail_allocations_of(const char* name, long from, long count) {
  seen = 0;
  fail_from = from;
  fail_count = count;
  dl_iterate_phdr(find_object, (void*)name);
}

void stop_failing_allocations(void) { object_begin = object_end = 0; }

/* Whether the next one would fail. */
int are_allocations_failing(void) { return seen >= fail_from && (fail_count == 0 || seen < fail_from + fail_count); }

static int fails(void* caller) {
  if ((uintptr_t)caller < object_begin || (uintptr_t)caller >= object_end) return 0;
  const int result = are_allocations_failing();
  ++seen;
  if (result) errno = ENOMEM;
  return result;
}

#define CALLER __builtin_return_address(0)

void* malloc(size_t size) { return fails(CALLER) ? NULL : __libc_malloc(size); }
void* calloc(size_t count, size_t size) { return fails(CALLER) ? NULL : __libc_calloc(count, size); }
void* realloc(void* memory, size_t size) { return size > 0 && fails(CALLER) ? NULL : __libc_realloc(memory, size); }
void* aligned_alloc(size_t alignment, size_t size) { return fails(CALLER) ? NULL : __libc_memalign(alignment, size); }

int posix_memalign(void** memory, size_t alignment, size_t size) {
  if (fails(CALLER)) return ENOMEM;
  *memory = __libc_memalign(alignment, size);
  return *memory != NULL ? 0 : ENOMEM;
}

/* operator new(size_t) and new[]: without exceptions nobody can be told, and the process ends. */
static void* new_or_end(size_t size, void* caller) {
  if (fails(caller)) abort();
  void* const memory = __libc_malloc(size > 0 ? size : 1);
  if (memory == NULL) abort();
  return memory;
}

void* _Znwm(size_t size) { return new_or_end(size, CALLER); }
void* _Znam(size_t size) { return new_or_end(size, CALLER); }
void* _ZnwmRKSt9nothrow_t(size_t size, const void* tag) {
  (void)tag;
  return fails(CALLER) ? NULL : __libc_malloc(size > 0 ? size : 1);
}
void* _ZnamRKSt9nothrow_t(size_t size, const void* tag) {
  (void)tag;
  return fails(CALLER) ? NULL : __libc_malloc(size > 0 ? size : 1);
}
