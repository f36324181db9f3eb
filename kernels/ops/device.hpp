// What a rank computes on: its memory, the order of its ops in time, and its way to other ranks. Pointers are
// to the device's memory unless they are called `host`.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "roofline/step/phases.hpp"

namespace helix {

class Communicator;
struct MpiGroup;

/// Owned device memory.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual std::byte* data() = 0;
  virtual std::size_t bytes() const = 0;
  /// May peers be let at it where it lies?
  virtual bool shareable() const { return false; }
  /// No op may touch these bytes until `allow_all`. Without effect where nothing watches over accesses.
  virtual void forbid(std::size_t /*offset*/, std::size_t /*bytes*/) {}
  virtual void allow_all() {}
};

/// Takes the time at points in the sequence of ops; read when they are done.
class Stopwatch {
 public:
  virtual ~Stopwatch() = default;
  /// Mark `i` is now, behind the ops issued so far.
  virtual void mark(std::size_t i) = 0;
  virtual double us_between(std::size_t first, std::size_t second) = 0;
};

/// Ops to be run again and again.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay() = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual std::string name() const = 0;         // "cpu", "cuda"
  virtual std::string device_name() const = 0;  // of the hardware
  virtual int threads() const = 0;              // worker threads of this rank (1 on a GPU)

  /// Bytes this rank may still allocate.
  virtual std::size_t memory_available() const = 0;
  /// Uninitialised, 4 KiB aligned, huge pages where allowed. Throws std::bad_alloc.
  virtual std::unique_ptr<Buffer> allocate(std::size_t bytes) = 0;
  /// The same where collectives find it fastest.
  virtual std::unique_ptr<Buffer> allocate_exchanged(std::size_t bytes) { return allocate(bytes); }
  /// Bytes to be left between the arrays of one buffer, and forbidden (memory.hpp does both); 0: nobody would
  /// notice who touches them.
  virtual std::size_t guard_bytes() const { return 0; }
  virtual void copy_to_host(void* host, const void* device, std::size_t bytes) = 0;
  virtual void copy_to_device(void* device, const void* host, std::size_t bytes) = 0;
  /// Within the device; the two do not overlap.
  virtual void copy(void* to, const void* from, std::size_t bytes);
  virtual void set_bytes(void* device, int value, std::size_t bytes) = 0;
  /// Waits for the ops issued so far.
  virtual void synchronize() = 0;

  /// Ops return before they are done, and issuing them takes time that a recording saves.
  virtual bool asynchronous() const { return false; }
  /// As it is here: for devices whose ops are done when they return.
  virtual std::unique_ptr<Stopwatch> make_stopwatch();
  /// Runs `ops` to see which ops it calls, collectives and a stopwatch's marks among them, but not the ops.
  /// Only for asynchronous devices; each op must have run before, with the same arguments.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& ops);
  /// The ops issued from now on belong to this phase of a step, or to none: for profilers that can show it.
  virtual void begin_phase(std::optional<Phase>) {}
  /// The ops issued from now on run beside exchanges that start_all_to_all began, or beside none: where both want the same
  /// units of the device, long ops leave them some.
  virtual void beside_exchange(bool) {}
  /// A communicator for the ranks of the group, over this device's memory and in the order of its ops.
  virtual std::unique_ptr<Communicator> connect(const MpiGroup& group) = 0;
};

}  // namespace helix
