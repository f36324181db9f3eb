// The shared memory of the block that runs, with a race check: threads are ordered by barriers only, so an
// access to a word that another thread wrote (or a write to one that it read) since the last barrier common
// to both is a fault, in whatever order the emulation ran them. The unit is the 32-bit word: threads that
// write halves of one word without a barrier between them are reported too. A new block finds NaN everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <source_location>
#include <vector>

namespace helix::simt {

/// When and by whom: epochs count barriers. thread, warp = kMany: several.
struct Moment {
  static constexpr std::int16_t kNobody = -1, kMany = -2;
  std::uint32_t block_epoch = 0, warp_epoch = 0;
  std::int16_t thread = kNobody, warp = kNobody;
};

class SharedMemory {
 public:
  void begin_block(std::size_t bytes, int threads);

  /// The bytes at `offset`, checked for `now`.
  const std::byte* read(std::int64_t offset, std::size_t bytes, const Moment& now);
  std::byte* write(std::int64_t offset, std::size_t bytes, const Moment& now);

  /// Copies arrive as late as they may: in copy_wait. Until then the destination is NaN and nobody
  /// may touch it.
  void copy_issue(std::int64_t to, const std::byte* from, std::size_t bytes, const Moment& now);
  void copy_commit(int thread);
  void copy_wait(int thread, std::size_t groups_in_flight, const Moment& now);

  static constexpr std::size_t kCopyBytes = 16;

 private:
  struct Word {
    Moment written, read;
    bool in_flight = false;
  };
  struct Copy {
    std::int64_t to;
    const std::byte* from;
    std::size_t bytes;
  };
  struct CopyQueue {
    std::vector<Copy> open;
    std::deque<std::vector<Copy>> groups;
  };

  void check_range(const char* what, std::int64_t offset, std::size_t bytes, const Moment& now) const;
  void check_write(std::int64_t offset, std::size_t bytes, const Moment& now);

  std::vector<std::byte> bytes_;
  std::vector<Word> words_;
  std::vector<CopyQueue> copies_;
};

}  // namespace helix::simt
