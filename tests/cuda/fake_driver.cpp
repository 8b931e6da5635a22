// The functions of NVIDIA's driver that the engine calls: each writes down what arrives.
#include <cstdio>
#include <cstring>
#include <string>
// As cuda.h has them
struct Attribute { int id; char pad[4]; union { char pad[64]; unsigned cluster[3]; int cooperative; } value; };
struct Config { unsigned grid[3], block[3], shared; void* stream; Attribute* attributes; unsigned count; };
static std::string said;
static void* current = nullptr;
static int failure = 0;
template <class... T> static int say(const char* format, T... values) {
  char line[256];
  snprintf(line, sizeof line, format, values...);
  said += line; said += "\n";
  return failure;
}
extern "C" {
const char* fake_said() { static std::string last; last = said; said.clear(); return last.c_str(); }
void fake_fail(int with) { failure = with; }
int cuGetErrorString(int error, const char** text) { *text = "out of order"; return 0; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal + 100; return 0; }
int cuDeviceGetAttribute(int* value, int which, int device) { *value = which == 16 ? 132 : which == 97 ? 232448 : -1; return device == 100 ? 0 : 1; }
int cuCtxGetCurrent(void** context) { *context = current; return 0; }
int cuDevicePrimaryCtxRetain(void** context, int device) { *context = (void*)(long)(device + 1000); return say("retain %d", device); }
int cuCtxSetCurrent(void* context) { current = context; return say("context %ld", (long)context); }
int cuModuleLoadData(void** module, const void* code) { *module = (void*)11; return say("module %s", (const char*)code); }
int cuModuleGetFunction(void** function, void* module, const char* name) { *function = (void*)22; return say("function %s of %ld", name, (long)module); }
int cuFuncSetAttribute(void* function, int which, int value) { return say("attribute %d of %ld is %d", which, (long)function, value); }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* count, void* function, int threads, size_t shared) {
  *count = 2; return say("blocks of %d threads, %zu bytes", threads, shared);
}
int cuOccupancyMaxActiveClusters(int* count, void* function, const Config* c) {
  *count = 7; return say("clusters of %u, grid %u", c->attributes[0].value.cluster[0], c->grid[0]);
}
int cuLaunchKernelEx(const Config* c, void* function, void** values, void** extra) {
  long long numbers[2];
  memcpy(numbers, values[0], sizeof numbers);
  say("launch %ld grid %u %u %u block %u %u %u shared %u stream %ld numbers %lld %lld", (long)function, c->grid[0], c->grid[1], c->grid[2],
      c->block[0], c->block[1], c->block[2], c->shared, (long)c->stream, numbers[0], numbers[1]);
  for (unsigned i = 0; i < c->count; i++)
    say("attribute %d: %u %u %u", c->attributes[i].id, c->attributes[i].value.cluster[0], c->attributes[i].value.cluster[1], c->attributes[i].value.cluster[2]);
  return failure;
}
}
